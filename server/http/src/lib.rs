//! skerry-http
