//! skerry-proxy
