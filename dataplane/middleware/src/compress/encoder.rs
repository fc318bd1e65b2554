//! The encoders. Pure CPU on the worker that serves the response, so their levels are low; and each holds some memory for
//! as long as its response lasts, so there are only so many at once.

use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::HeaderMap;

use super::Encoding;
use crate::{Transform, Unfit};

/// What all encoders of the process hold together, KiB; further responses go on as they are. That is room for some 600
/// with brotli, 2,300 with gzip or 6,500 with zstd.
const MOST: usize = 512 * 1024;
/// Of zlib, 1 to 9. Some 75 MB of text per second of CPU, to 28 %.
const GZIP_LEVEL: u32 = 5;
/// Of brotli, 0 to 11. Some 75 MB of text per second, to 29 %; 4 takes twice the memory, and nearly twice the time.
const BROTLI_QUALITY: u32 = 3;
/// Log2 of brotli's window, bytes. Pages rarely repeat themselves over more, and memory goes with it.
const BROTLI_WINDOW: u32 = 18;
/// Of zstd, 1 to 22. Some 260 MB of text per second, to 28 %.
const ZSTD_LEVEL: i32 = 3;
/// Log2 of zstd's window, bytes.
const ZSTD_WINDOW: u32 = 18;

static ALL: Places = Places(AtomicUsize::new(0));

/// What encoders hold now, KiB.
struct Places(AtomicUsize);

/// A place among the encoders that run at once, by what it holds.
struct Place {
    held: usize,
    all: &'static Places,
}

impl Places {
    fn take(&'static self, encoding: Encoding) -> Option<Place> {
        // As measured, with these windows.
        let held = match encoding {
            Encoding::Brotli => 880,
            Encoding::Gzip => 220,
            Encoding::Zstd => 80,
        };
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |all| {
            (all + held <= MOST).then_some(all + held)
        });
        taken.ok().map(|_| Place { held, all: self })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.0.fetch_sub(self.held, Ordering::Relaxed);
    }
}

/// Compresses one body.
pub(super) struct Encoder {
    inner: Option<Inner>,
    /// Something was pushed since the last flush.
    dirty: bool,
    _place: Place,
}

enum Inner {
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Encoder {
    /// `None` when too many run already.
    pub(super) fn start(encoding: Encoding) -> Result<Option<Self>, Unfit> {
        let Some(place) = ALL.take(encoding) else {
            return Ok(None);
        };
        let inner = match encoding {
            Encoding::Brotli => Inner::Brotli(Box::new(brotli::CompressorWriter::new(
                Vec::new(),
                4096,
                BROTLI_QUALITY,
                BROTLI_WINDOW,
            ))),
            Encoding::Gzip => Inner::Gzip(flate2::write::GzEncoder::new(
                Vec::new(),
                flate2::Compression::new(GZIP_LEVEL),
            )),
            Encoding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL).map_err(unfit)?;
                encoder.window_log(ZSTD_WINDOW).map_err(unfit)?;
                Inner::Zstd(encoder)
            }
        };
        Ok(Some(Self {
            inner: Some(inner),
            dirty: false,
            _place: place,
        }))
    }
}

impl Inner {
    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Self::Brotli(encoder) => encoder,
            Self::Gzip(encoder) => encoder,
            Self::Zstd(encoder) => encoder,
        }
    }

    /// What was compressed so far.
    fn take(&mut self) -> Bytes {
        let out = match self {
            Self::Brotli(encoder) => encoder.get_mut(),
            Self::Gzip(encoder) => encoder.get_mut(),
            Self::Zstd(encoder) => encoder.get_mut(),
        };
        std::mem::take(out).into()
    }

    fn finish(self) -> io::Result<Bytes> {
        Ok(match self {
            Self::Brotli(encoder) => encoder.into_inner().into(),
            Self::Gzip(encoder) => encoder.finish()?.into(),
            Self::Zstd(encoder) => encoder.finish()?.into(),
        })
    }
}

impl Transform for Encoder {
    fn push(&mut self, data: Bytes) -> Result<Bytes, Unfit> {
        let Some(inner) = &mut self.inner else {
            return Ok(Bytes::new());
        };
        inner.writer().write_all(&data).map_err(unfit)?;
        self.dirty |= !data.is_empty();
        Ok(inner.take())
    }

    fn flush(&mut self) -> Result<Bytes, Unfit> {
        let Some(inner) = &mut self.inner else {
            return Ok(Bytes::new());
        };
        inner.writer().flush().map_err(unfit)?;
        self.dirty = false;
        Ok(inner.take())
    }

    fn holds_back(&self) -> bool {
        self.dirty
    }

    fn finish(&mut self, _trailers: &mut Option<HeaderMap>) -> Result<Bytes, Unfit> {
        self.dirty = false;
        match self.inner.take() {
            Some(inner) => inner.finish().map_err(unfit),
            None => Ok(Bytes::new()),
        }
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encoding = match &self.inner {
            None => "ended",
            Some(Inner::Brotli(_)) => "br",
            Some(Inner::Gzip(_)) => "gzip",
            Some(Inner::Zstd(_)) => "zstd",
        };
        f.debug_struct("Encoder")
            .field("encoding", &encoding)
            .finish_non_exhaustive()
    }
}

fn unfit(error: io::Error) -> Unfit {
    Unfit::new(format!("a body can't be compressed: {error}"))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// What a client makes of it, as far as it came.
    fn decoded(encoding: Encoding, data: &[u8], whole: bool) -> Vec<u8> {
        let mut out = Vec::new();
        let result = match encoding {
            Encoding::Brotli => brotli::Decompressor::new(data, 4096).read_to_end(&mut out),
            Encoding::Gzip => flate2::read::GzDecoder::new(data).read_to_end(&mut out),
            Encoding::Zstd => zstd::stream::read::Decoder::new(data)
                .unwrap()
                .read_to_end(&mut out),
        };
        assert_eq!(result.is_ok(), whole, "{encoding:?} {result:?}");
        out
    }

    #[test]
    fn what_was_flushed_can_be_read_and_the_end_makes_it_whole() {
        for encoding in [Encoding::Brotli, Encoding::Gzip, Encoding::Zstd] {
            let mut encoder = Encoder::start(encoding).unwrap().unwrap();
            assert!(!encoder.holds_back());
            let mut sent = Vec::from(encoder.push(Bytes::from_static(b"first")).unwrap());
            assert!(encoder.holds_back());
            sent.extend(encoder.flush().unwrap());
            assert!(!encoder.holds_back());
            assert_eq!(decoded(encoding, &sent, false), b"first");
            let long: Bytes = b"second ".repeat(50_000).into();
            sent.extend(encoder.push(long.clone()).unwrap());
            sent.extend(encoder.finish(&mut None).unwrap());
            assert_eq!(
                decoded(encoding, &sent, true),
                [b"first".as_slice(), &long].concat()
            );
            assert!(sent.len() < long.len() / 50, "{encoding:?} {}", sent.len());
            assert!(encoder.finish(&mut None).unwrap().is_empty());
        }
    }

    #[test]
    fn places_are_bounded_and_given_back() {
        static OWN: Places = Places(AtomicUsize::new(0));
        let places: Vec<_> = std::iter::from_fn(|| OWN.take(Encoding::Brotli)).collect();
        assert_eq!(places.len(), MOST / 880);
        drop(places);
        assert!(OWN.take(Encoding::Brotli).is_some());
    }

    #[test]
    fn an_empty_body_stays_empty() {
        for encoding in [Encoding::Brotli, Encoding::Gzip, Encoding::Zstd] {
            let mut encoder = Encoder::start(encoding).unwrap().unwrap();
            let sent = encoder.finish(&mut None).unwrap();
            assert!(decoded(encoding, &sent, true).is_empty());
        }
    }
}
