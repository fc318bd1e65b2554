//! Bytes as regular expressions see them: text in which every byte that is not UTF-8 stands as U+FFFD.

use std::borrow::Cow;

/// Borrows valid UTF-8; otherwise replaces every invalid byte by one U+FFFD, as Go's regular expressions read it.
pub(crate) fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => {
            let mut out = String::with_capacity(bytes.len() + 8);
            push_lossy(&mut out, bytes);
            Cow::Owned(out)
        }
    }
}

/// Appends `bytes` to `out` in the manner of [`lossy`].
pub(crate) fn push_lossy(out: &mut String, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        out.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
}
