//! Which of the contract's types may be map keys and values, for the user half.

use crate::{
    config::Config,
    mapping::{Member, ObjectKey, Process, Table},
    unwind::Rule,
};

// SAFETY: `repr(C)`, no padding (checked by `IntoBytes`), and any bit pattern is valid (`FromBytes`).
unsafe impl aya::Pod for Config {}
// SAFETY: as above.
unsafe impl aya::Pod for ObjectKey {}
// SAFETY: as above.
unsafe impl aya::Pod for Process {}
// SAFETY: as above.
unsafe impl aya::Pod for Table {}
// SAFETY: as above.
unsafe impl aya::Pod for Rule {}
// SAFETY: as above.
unsafe impl aya::Pod for Member {}
