//! skerry-sync
