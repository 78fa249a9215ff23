//! What a task is called in messages, reports and hooks: its label, its callback, where it was submitted.

use std::fmt;
use std::panic::Location;
use std::sync::Arc;

/// A task's label, given by [`Options::label`](crate::Options::label).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Label(Text);

#[derive(Clone)]
enum Text {
    Static(&'static str),
    Shared(Arc<str>),
    Placed(Arc<Placed>),
}

/// A label, perhaps none (""), with the place that submitted the task.
struct Placed {
    label: Box<str>,
    place: Box<str>,
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Text {}

impl std::hash::Hash for Text {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl Text {
    fn as_str(&self) -> &str {
        match self {
            Text::Static(text) => text,
            Text::Shared(text) => text,
            Text::Placed(placed) => &placed.label,
        }
    }
}

impl Label {
    /// The label's text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The place that was given with it.
    pub(crate) fn place(&self) -> Option<&str> {
        match &self.0 {
            Text::Placed(placed) => Some(&placed.place),
            Text::Static(_) | Text::Shared(_) => None,
        }
    }

    /// A label, perhaps none, and a place, perhaps none.
    pub(crate) fn at(label: Option<Label>, place: Option<&str>) -> Option<Label> {
        let Some(place) = place else { return label };
        Some(Label(Text::Placed(Arc::new(Placed {
            label: label.as_ref().map_or("", Label::as_str).into(),
            place: place.into(),
        }))))
    }
}

impl From<&'static str> for Label {
    fn from(text: &'static str) -> Self {
        Label(Text::Static(text))
    }
}

impl From<String> for Label {
    fn from(text: String) -> Self {
        Label(Text::Shared(text.into()))
    }
}

impl From<Arc<str>> for Label {
    fn from(text: Arc<str>) -> Self {
        Label(Text::Shared(text))
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What tells one task from another in a message.
///
/// `Display` gives ``task `label` (submitted at src/main.rs:12)``; without a label, the name of the
/// callback's type stands in.
#[derive(Clone, PartialEq, Eq)]
pub struct TaskName {
    label: Option<Label>,
    callback: &'static str,
    site: Option<&'static Location<'static>>,
}

impl TaskName {
    pub(crate) fn new(label: Option<Label>, callback: &'static str, site: Option<&'static Location<'static>>) -> Self {
        TaskName { label, callback, site }
    }

    /// The label given at submit.
    pub fn label(&self) -> Option<&str> {
        let label = self.label.as_ref()?;
        (label.place().is_none() || !label.as_str().is_empty()).then(|| label.as_str())
    }

    /// The type name of the callback: for a closure, the path of the function it stands in.
    pub fn callback(&self) -> &'static str {
        self.callback
    }

    /// The line that submitted it, where known.
    pub fn submitted_at(&self) -> Option<&'static Location<'static>> {
        self.site
    }

    /// The place that was given by [`Options::submitted_at`](crate::Options::submitted_at): for callers that are not written
    /// in Rust.
    pub fn place(&self) -> Option<&str> {
        self.label.as_ref().and_then(Label::place)
    }
}

impl fmt::Display for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task `{}`", self.label().unwrap_or(self.callback))?;
        if let Some(place) = self.place() {
            write!(f, " (submitted at {place})")?;
        } else if let Some(site) = self.site {
            write!(f, " (submitted at {}:{})", site.file(), site.line())?;
        }
        Ok(())
    }
}

impl fmt::Debug for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Packs a place in the source into 24 bits: its distance from a place in this crate, in steps of 8 bytes.
///
/// Places of one program or library lie together in its read-only data, so the distance is small; a place
/// that is more than 64 MiB away (another shared library) packs to 0 and unpacks to `None`.
pub(crate) mod site {
    use std::panic::Location;

    pub(crate) const BITS: u32 = 24;

    static ANCHOR: &Location<'static> = Location::caller();

    fn anchor() -> usize {
        (ANCHOR as *const Location<'static>).expose_provenance()
    }

    #[inline]
    pub(crate) fn pack(site: &'static Location<'static>) -> u64 {
        let here = (site as *const Location<'static>).expose_provenance();
        let steps = (here.wrapping_sub(anchor()) as isize) >> 3;
        let limit = 1isize << (BITS - 1);
        if steps < -limit || steps >= limit || here & 7 != anchor() & 7 {
            return 0;
        }
        (steps as u64) & ((1 << BITS) - 1)
    }

    pub(crate) fn unpack(bits: u64) -> Option<&'static Location<'static>> {
        if bits == 0 {
            return None;
        }
        let steps = ((bits << (64 - BITS)) as i64 >> (64 - BITS)) as isize;
        let address = anchor().wrapping_add((steps << 3) as usize);
        // SAFETY: the bits come from `pack`, which exposed the provenance of a `&'static Location` at exactly
        // this address (the low three bits are the anchor's, as `pack` checked).
        Some(unsafe { &*std::ptr::with_exposed_provenance::<Location<'static>>(address) })
    }

    #[cfg(all(test, not(any(loom, shuttle))))]
    mod tests {
        use super::*;

        #[test]
        fn p09_a_place_survives_packing() {
            let here = Location::caller();
            let back = unpack(pack(here)).expect("this crate's own places are near");
            assert_eq!((back.file(), back.line()), (here.file(), here.line()));
            assert!(unpack(0).is_none());
        }
    }
}
