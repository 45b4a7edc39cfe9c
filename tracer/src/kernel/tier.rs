//! How closely processes are looked at.

/// What is traced of every process, and what more of some.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tier {
    /// Every call of the allocator.
    #[default]
    Exact,
    /// Mappings, and samples of the page faults that make memory resident. Nearly free.
    Growth,
    /// As growth; and the allocator's calls of those processes that grow.
    Auto,
}

impl Tier {
    pub const ALL: [Self; 3] = [Self::Exact, Self::Growth, Self::Auto];

    /// As it is typed, and as captures have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Growth => "growth",
            Self::Auto => "auto",
        }
    }
}
