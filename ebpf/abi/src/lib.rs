//! What the eBPF programs and their loader both have to know: layouts of map keys and values, sizes of maps, counters.
//!
//! A map outlives the process that made it, so a layout is a promise to another version of the program. Whoever changes
//! one, or the meaning of a field, a map's size or a counter's place, raises [`VERSION`]: pins of another version live in
//! another folder and are never read. The assertions beside every layout fail the build of both sides.
#![no_std]

pub mod bucket;
pub mod chase;
pub mod guard;
pub mod steer;

/// Version of everything in this crate, part of the path of the pins.
pub const VERSION: u32 = 2;

/// The layout's size and the offsets of its fields, checked when it is compiled.
macro_rules! assert_layout {
    ($layout:ty, $size:literal $(, $field:ident @ $offset:literal)* $(,)?) => {
        const _: () = {
            assert!(core::mem::size_of::<$layout>() == $size);
            $(assert!(core::mem::offset_of!($layout, $field) == $offset);)*
        };
    };
}
pub(crate) use assert_layout;

/// An enum whose values are indices into a map of counters.
macro_rules! counters {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $label:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum $name {
            $($(#[$doc])* $variant,)+
        }

        impl $name {
            /// Every counter, in the order of the map.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Entries of the map.
            #[expect(clippy::cast_possible_truncation, reason = "a dozen counters")]
            pub const COUNT: u32 = Self::ALL.len() as u32;

            /// The name in metrics and in status.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)+
                }
            }
        }
    };
}
pub(crate) use counters;
