//! skerry-admin
