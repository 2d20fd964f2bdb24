//! skerry-store
