//! Leaves the debug sections out of an object. BTF, which the loader and the verifier use, stays.

use anyhow::Result;
use object::build::elf::{Builder, SectionData};
use object::elf::SHT_STRTAB;

/// The object without `.debug_*` and what relocates it.
pub(super) fn debug_sections(object: &[u8]) -> Result<Vec<u8>> {
    let mut builder = Builder::read(object)?;
    for section in &mut builder.sections {
        let name = section.name.as_slice();
        section.delete = name.starts_with(b".debug_") || name.starts_with(b".rel.debug_");
    }
    // The linker keeps the names of sections and of symbols in one table; the writer wants two.
    let has_names = builder
        .sections
        .iter()
        .any(|section| matches!(section.data, SectionData::SectionString));
    if !has_names {
        let names = builder.sections.add();
        names.name = b".shstrtab"[..].into();
        names.sh_type = SHT_STRTAB;
        names.data = SectionData::SectionString;
    }
    builder.delete_orphans();
    let mut stripped = Vec::new();
    builder.write(&mut stripped)?;
    Ok(stripped)
}
