//! Rules against requests: what matches, what is refused, and what the refusal says.
