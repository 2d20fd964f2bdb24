//! skerry-media
