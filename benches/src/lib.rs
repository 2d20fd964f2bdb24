//! skerry-benches
