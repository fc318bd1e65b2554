//! Options in layers: what one layer leaves out, the one below it says.

use std::collections::BTreeMap;

use crate::raw::{Bytes, Time};

/// A value that may stand in several layers.
pub trait Layered: Clone {
    /// The value with what it leaves out taken from `below`. A single value leaves nothing out.
    #[must_use]
    fn over(&self, below: &Self) -> Self {
        let _ = below;
        self.clone()
    }
}

/// The value of one key in two layers.
pub(super) fn over<T: Layered>(above: Option<&T>, below: Option<&T>) -> Option<T> {
    match (above, below) {
        (Some(above), Some(below)) => Some(above.over(below)),
        (one, other) => one.or(other).cloned(),
    }
}

macro_rules! single_values {
    ($($type:ty),* $(,)?) => { $(impl Layered for $type {})* };
}
single_values!(bool, u8, u16, u32, String, Time, Bytes, Vec<u16>, BTreeMap<String, String>);

/// Declares groups of options: each key may be left out, and the groups layer key by key.
macro_rules! options {
    ($(
        $(#[$about:meta])*
        pub struct $name:ident {
            $($(#[$attribute:meta])* pub $field:ident: $type:ty,)*
        }
    )*) => { $(
        $(#[$about])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(default, rename_all = "camelCase", deny_unknown_fields)]
        pub struct $name {
            $(
                $(#[$attribute])*
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $field: Option<$type>,
            )*
        }

        impl Layered for $name {
            fn over(&self, below: &Self) -> Self {
                Self { $($field: over(self.$field.as_ref(), below.$field.as_ref()),)* }
            }
        }
    )* };
}
pub(super) use options;
