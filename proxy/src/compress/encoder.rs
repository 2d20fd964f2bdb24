//! The compressors, all of them asked in the same way.

use std::io::{self, Write as _};

use brotli::CompressorWriter;
use flate2::Compression;
use flate2::write::GzEncoder;
use zstd_safe::zstd_sys::ZSTD_EndDirective;
use zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer};

use super::coding::Coding;

/// As far back as brotli and zstd look, as a power of two: 256 KiB, which bounds what an answer
/// under way holds.
const WINDOW: u32 = 18;
/// How much brotli and zstd write at once, in bytes.
const ROOM: usize = 16 * 1024;

/// A compressor under way. The quickest step of each: more of it costs several times the time for
/// a few hundredths of the size.
pub(super) enum Encoder {
    Gzip(GzEncoder<Vec<u8>>),
    Brotli(Box<CompressorWriter<Vec<u8>>>),
    Zstd(Zstd),
}

impl Encoder {
    /// For an answer of `size` bytes, where that is known. None where there is no memory for it.
    pub(super) fn new(coding: Coding, size: Option<u64>) -> Option<Encoder> {
        Some(match coding {
            Coding::Gzip => Encoder::Gzip(GzEncoder::new(Vec::new(), Compression::fast())),
            Coding::Brotli => {
                let writer = CompressorWriter::new(Vec::new(), ROOM, 1, WINDOW);
                Encoder::Brotli(Box::new(writer))
            }
            Coding::Zstd => Encoder::Zstd(Zstd::new(size)?),
        })
    }

    pub(super) fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        match self {
            Encoder::Gzip(gzip) => gzip.write_all(piece),
            Encoder::Brotli(brotli) => brotli.write_all(piece),
            Encoder::Zstd(zstd) => zstd.put(piece, ZSTD_EndDirective::ZSTD_e_continue),
        }
    }

    /// Gives out what was held back.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        match self {
            Encoder::Gzip(gzip) => gzip.flush(),
            Encoder::Brotli(brotli) => brotli.flush(),
            Encoder::Zstd(zstd) => zstd.put(&[], ZSTD_EndDirective::ZSTD_e_flush),
        }
    }

    /// What was given out since the last time.
    pub(super) fn taken(&mut self) -> Vec<u8> {
        std::mem::take(match self {
            Encoder::Gzip(gzip) => gzip.get_mut(),
            Encoder::Brotli(brotli) => brotli.get_mut(),
            Encoder::Zstd(zstd) => &mut zstd.out,
        })
    }

    /// The rest.
    pub(super) fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Encoder::Gzip(gzip) => gzip.finish(),
            Encoder::Brotli(brotli) => Ok(brotli.into_inner()),
            Encoder::Zstd(mut zstd) => {
                zstd.put(&[], ZSTD_EndDirective::ZSTD_e_end)?;
                Ok(zstd.out)
            }
        }
    }
}

/// Zstandard (RFC 8878).
pub(super) struct Zstd {
    context: CCtx<'static>,
    out: Vec<u8>,
}

impl Zstd {
    fn new(size: Option<u64>) -> Option<Zstd> {
        let mut context = CCtx::try_create()?;
        let level = context.set_parameter(CParameter::CompressionLevel(1));
        let window = context.set_parameter(CParameter::WindowLog(WINDOW));
        // With its size known, less memory is made ready for a small answer.
        let pledged = context.set_pledged_src_size(size);
        let out = Vec::new();
        (level.is_ok() && window.is_ok() && pledged.is_ok()).then_some(Zstd { context, out })
    }

    fn put(&mut self, piece: &[u8], order: ZSTD_EndDirective) -> io::Result<()> {
        let mut input = InBuffer::around(piece);
        let mut room = [0; ROOM];
        loop {
            let mut output = OutBuffer::around(&mut room[..]);
            let left = self
                .context
                .compress_stream2(&mut output, &mut input, order)
                .map_err(|code| io::Error::other(zstd_safe::get_error_name(code)))?;
            self.out.extend_from_slice(output.as_slice());
            let done = match order {
                ZSTD_EndDirective::ZSTD_e_continue => input.pos() == piece.len(),
                _ => left == 0,
            };
            if done {
                return Ok(());
            }
        }
    }
}
