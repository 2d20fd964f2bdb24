//! skerry-account
