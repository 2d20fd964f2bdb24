//! skerry-client
