//! skerry-app
