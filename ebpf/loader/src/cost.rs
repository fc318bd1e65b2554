//! How large a program is in the kernel, which is what its time and its chance to be loaded depend on.

use aya::programs::ProgramInfo;

/// The size of a program. 0 where the kernel does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Instructions after the verifier has rewritten them.
    pub instructions: u32,
    /// Instructions that the verifier walked through, all paths together; the kernel's limit is a million (5.16).
    pub verified: u32,
}

impl Cost {
    pub(crate) fn of(info: &ProgramInfo) -> Self {
        // An instruction has eight bytes.
        let instructions = info.size_translated().unwrap_or(0) / 8;
        Self {
            instructions,
            verified: info.verified_instruction_count().unwrap_or(0),
        }
    }
}
