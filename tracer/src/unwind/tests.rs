//! Laws of the tables, held against gimli's own answers on real objects.

use gimli::{BaseAddresses, EhFrame, LittleEndian, UnwindContext, UnwindSection as _};
use tracer_ebpf::unwind::{CFA_END, CFA_NONE, CFA_PLT, CFA_SIGNAL, CFA_SP, Rule};

use super::*;

fn objects() -> Vec<Vec<u8>> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let libc = maps.split_whitespace().find(|it| it.contains("libc.so")).expect("a shared C library");
    vec![std::fs::read(libc).unwrap(), std::fs::read("/proc/self/exe").unwrap()]
}

/// The translation of what gimli finds for an address by its own search.
fn oracle(section: Section<'_>, address: u64, context: &mut UnwindContext<usize>) -> Option<Rule> {
    let eh_frame = EhFrame::new(section.data, LittleEndian);
    let bases = BaseAddresses::default().set_eh_frame(section.address);
    let fde = eh_frame.fde_for_address(&bases, address, EhFrame::cie_from_offset).ok()?;
    if fde.cie().is_signal_trampoline() {
        return Some(Rule { cfa: CFA_SIGNAL, ..Rule::default() });
    }
    let row = fde.unwind_info_for_address(&eh_frame, &bases, context, address).ok()?;
    Some(rule::translate(row, &eh_frame))
}

#[test]
fn every_row_of_a_real_object_is_found_as_gimli_finds_it() {
    const FIRST_ROW: u32 = 1000;
    for bytes in objects() {
        let image = Image::parse(&bytes).unwrap();
        let section = image.eh_frame().unwrap();
        let table = Table::from_image(&image).unwrap();
        let mut rules = Rules::default();
        let packed = table.pack(&mut rules, FIRST_ROW).unwrap();
        assert_eq!((packed.rows.len(), packed.blocks.len()), (table.packed_rows(), table.packed_blocks()));
        let known: Vec<Rule> = rules.iter().collect();
        let mut context = UnwindContext::new();
        let segment = image.segments().next().unwrap();
        // gimli's search is linear: a few hundred rows, spread over the object, first and last byte of each.
        let step = table.offsets.len() / 150 + 1;
        for at in (0..table.offsets.len() - 1).step_by(step) {
            for offset in [table.offsets[at], table.offsets[at + 1] - 1] {
                let found = known[packed.find(FIRST_ROW, offset).unwrap() as usize];
                assert_eq!(found, table.lookup(offset), "offset {offset:#x}");
                let address = u64::from(offset) - segment.file_offset + segment.address;
                match oracle(section, address, &mut context) {
                    Some(expected) => assert_eq!(found, expected, "offset {offset:#x}"),
                    // Padding keeps the rule before it.
                    None => assert!(
                        found.cfa == CFA_NONE || offset == table.offsets[at + 1] - 1,
                        "offset {offset:#x}"
                    ),
                }
            }
        }
    }
}

#[test]
fn packed_and_plain_agree_everywhere() {
    for bytes in objects() {
        let table = Table::from_image(&Image::parse(&bytes).unwrap()).unwrap();
        let mut rules = Rules::default();
        let packed = table.pack(&mut rules, 0).unwrap();
        let known: Vec<Rule> = rules.iter().collect();
        let end = table.offsets.last().unwrap() + 300;
        for offset in (table.start()..end).step_by(7) {
            let found = packed.find(0, offset).map_or(Rule::default(), |it| known[it as usize]);
            assert_eq!(found, table.lookup(offset), "offset {offset:#x}");
        }
    }
}

#[test]
fn the_c_library_has_every_kind_that_a_walk_needs() {
    let bytes = &objects()[0];
    let table = Table::from_image(&Image::parse(bytes).unwrap()).unwrap();
    for kind in [CFA_SP, CFA_END, CFA_SIGNAL, CFA_PLT] {
        assert!(table.rules.iter().any(|it| it.cfa == kind), "kind {kind}");
    }
    assert_eq!(table.skipped_functions, 0);
    assert!(table.rules.len() < 1000, "{} rules", table.rules.len());
}

#[test]
fn damaged_bytes_do_no_harm() {
    let bytes = &objects()[0];
    let image = Image::parse(bytes).unwrap();
    let section = image.eh_frame().unwrap();
    let segments: Vec<_> = image.segments().collect();
    for cut in [0, 1, 7, 100, 1001, section.data.len() / 2] {
        Table::from_eh_frame(Section { data: &section.data[..cut], ..section }, &segments, None);
    }
    let mut damaged = section.data[..4096.min(section.data.len())].to_vec();
    for at in 0..damaged.len() {
        damaged[at] ^= 0xff;
        Table::from_eh_frame(Section { data: &damaged, ..section }, &segments, None);
        damaged[at] ^= 0xff;
    }
}
