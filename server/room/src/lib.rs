//! skerry-room
