//! Expressions of circuit breakers: whatever the text, it is read or refused in the same way each time, and parentheses
//! around it change nothing.
#![no_main]

use constellation_middleware::expression::{Expression, MAX_BYTES};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let read = Expression::parse(text);
    assert_eq!(read, Expression::parse(text));
    let (Ok(expression), true) = (read, text.len() + 2 <= MAX_BYTES) else {
        return;
    };
    // One pair more may be one too many.
    match Expression::parse(&format!("({text})")) {
        Ok(same) => assert_eq!(same, expression),
        Err(error) => assert!(error.to_string().contains("parentheses"), "{error}"),
    }
});
