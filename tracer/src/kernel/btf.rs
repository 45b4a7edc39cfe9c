//! Where the fields of kernel structures lie, from the kernel's own type information.
//!
//! Rust's BPF target has no relocations against kernel types, so the offsets are looked up here and
//! passed to the probes. Only what that needs is read: structures, unions and the names of members
//! (Documentation/bpf/btf.rst). aya-obj reads the same data but does not publish members.

use std::collections::HashMap;

use zerocopy::{FromBytes, Immutable, KnownLayout};

/// `BTF_KIND_*` of include/uapi/linux/btf.h, as far as their size must be known to step over them.
mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const CONST: u32 = 10;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const VAR: u32 = 14;
    pub(super) const DATASEC: u32 = 15;
    pub(super) const DECL_TAG: u32 = 17;
    pub(super) const ENUM64: u32 = 19;
}

const MAGIC: u16 = 0xeb9f;

#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header {
    magic: u16,
    version: u8,
    flags: u8,
    header_bytes: u32,
    type_offset: u32,
    type_bytes: u32,
    string_offset: u32,
    string_bytes: u32,
}

#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Type {
    name: u32,
    info: u32,
    size_or_type: u32,
}

#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Member {
    name: u32,
    kind: u32,
    offset: u32,
}

#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Enumerator {
    name: u32,
    value: i32,
}

/// A structure or union, or a name for another type.
enum Definition<'data> {
    Members { members: &'data [Member], bitfields: bool },
    Alias(u32),
}

/// The types of one kernel.
pub(crate) struct Btf<'data> {
    strings: &'data [u8],
    definitions: HashMap<u32, Definition<'data>>,
    by_name: HashMap<&'data str, u32>,
    enumerators: HashMap<&'data str, i32>,
}

impl<'data> Btf<'data> {
    /// `None` if the bytes are no type information that this reader understands.
    pub(crate) fn parse(bytes: &'data [u8]) -> Option<Self> {
        let (header, _) = Header::ref_from_prefix(bytes).ok()?;
        if header.magic != MAGIC {
            return None;
        }
        let section = |offset: u32, size: u32| {
            let start = header.header_bytes.checked_add(offset)? as usize;
            bytes.get(start..start.checked_add(size as usize)?)
        };
        let mut types = section(header.type_offset, header.type_bytes)?;
        let strings = section(header.string_offset, header.string_bytes)?;
        let mut btf = Self {
            strings,
            definitions: HashMap::new(),
            by_name: HashMap::new(),
            enumerators: HashMap::new(),
        };
        let mut id = 0;
        while !types.is_empty() {
            id += 1;
            types = btf.read_type(id, types)?;
        }
        Some(btf)
    }

    /// Reads one type and returns what is behind it.
    fn read_type(&mut self, id: u32, bytes: &'data [u8]) -> Option<&'data [u8]> {
        let (ty, rest) = Type::ref_from_prefix(bytes).ok()?;
        let count = (ty.info & 0xffff) as usize;
        match ty.info >> 24 & 0x1f {
            kind::STRUCT | kind::UNION => {
                let (members, rest) = <[Member]>::ref_from_prefix_with_elems(rest, count).ok()?;
                self.definitions.insert(id, Definition::Members { members, bitfields: ty.info >> 31 == 1 });
                let name = self.string(ty.name)?;
                if !name.is_empty() && count > 0 {
                    self.by_name.entry(name).or_insert(id);
                }
                Some(rest)
            }
            kind::TYPEDEF | kind::CONST | kind::VOLATILE => {
                self.definitions.insert(id, Definition::Alias(ty.size_or_type));
                Some(rest)
            }
            kind::INT | kind::VAR | kind::DECL_TAG => rest.get(4..),
            kind::ARRAY => rest.get(12..),
            kind::ENUM => {
                let (enumerators, rest) = <[Enumerator]>::ref_from_prefix_with_elems(rest, count).ok()?;
                for it in enumerators {
                    self.enumerators.insert(self.string(it.name)?, it.value);
                }
                Some(rest)
            }
            kind::FUNC_PROTO => rest.get(8 * count..),
            kind::DATASEC | kind::ENUM64 => rest.get(12 * count..),
            _ => Some(rest),
        }
    }

    fn string(&self, offset: u32) -> Option<&'data str> {
        let rest = self.strings.get(offset as usize..)?;
        let end = rest.iter().position(|it| *it == 0)?;
        std::str::from_utf8(&rest[..end]).ok()
    }

    /// Bytes from the start of `structure` to the field that `path` names, step by step through nested
    /// structures. Members of unnamed structures and unions count as the outer one's.
    pub(crate) fn offset(&self, structure: &str, path: &[&str]) -> Option<u32> {
        let mut id = *self.by_name.get(structure)?;
        let mut bits = 0;
        for name in path {
            let (more, kind) = self.member(id, name)?;
            bits += more;
            id = kind;
        }
        Some(bits / 8)
    }

    /// The value of a name in an enumeration of 32 bits.
    pub(crate) fn enumerator(&self, name: &str) -> Option<i32> {
        self.enumerators.get(name).copied()
    }

    /// (offset in bits, type) of a member.
    fn member(&self, id: u32, name: &str) -> Option<(u32, u32)> {
        let (members, bitfields) = match self.definitions.get(&id)? {
            Definition::Members { members, bitfields } => (members, *bitfields),
            Definition::Alias(other) => return self.member(*other, name),
        };
        members.iter().find_map(|member| {
            // With bit fields in the structure, the upper byte is a width.
            let offset = if bitfields { member.offset & 0xff_ffff } else { member.offset };
            match self.string(member.name)? {
                found if found == name => Some((offset, member.kind)),
                "" => self.member(member.kind, name).map(|(more, kind)| (offset + more, kind)),
                _ => None,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], structure: &str, path: &[&str], expected: Option<u32>) {
        let btf = Btf::parse(bytes).expect("type information");
        assert_eq!(btf.offset(structure, path), expected, "{structure} {path:?}");
    }

    /// `struct outer { int a; struct { long b; }; struct inner c; }; struct inner { int x; int y; };
    /// enum { first = 5 }`
    fn sample() -> Vec<u8> {
        let strings = b"\0outer\0inner\0a\0b\0c\0x\0y\0first\0";
        let at = |name: &[u8]| {
            strings
                .windows(name.len() + 2)
                .position(|it| it[0] == 0 && &it[1..=name.len()] == name && it[name.len() + 1] == 0)
                .map_or(0, |it| it as u32 + 1)
        };
        let mut types: Vec<u32> = vec![at(b"a"), 1 << 24, 4, 32];
        types.extend([at(b"inner"), 4 << 24 | 2, 8, at(b"x"), 1, 0, at(b"y"), 1, 32]);
        types.extend([0, 4 << 24 | 1, 8, at(b"b"), 1, 0]);
        types.extend([at(b"outer"), 4 << 24 | 3, 24, at(b"a"), 1, 0, 0, 3, 64, at(b"c"), 2, 128]);
        types.extend([0, 6 << 24 | 1, 4, at(b"first"), 5]);
        let types: Vec<u8> = types.iter().flat_map(|it| it.to_le_bytes()).collect();
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        for word in [24, 0, types.len() as u32, types.len() as u32, strings.len() as u32] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(types);
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn members_nested_and_unnamed() {
        check(&sample(), "outer", &["a"], Some(0));
        check(&sample(), "outer", &["b"], Some(8));
        check(&sample(), "outer", &["c", "y"], Some(20));
        check(&sample(), "outer", &["z"], None);
        check(&sample(), "other", &["a"], None);
    }

    #[test]
    fn values_of_enumerations() {
        let bytes = sample();
        let btf = Btf::parse(&bytes).expect("type information");
        assert_eq!((btf.enumerator("first"), btf.enumerator("second")), (Some(5), None));
    }

    #[test]
    fn what_is_cut_is_refused() {
        let bytes = sample();
        for end in 0..bytes.len() {
            assert!(Btf::parse(&bytes[..end]).is_none(), "cut at {end}");
        }
    }
}
