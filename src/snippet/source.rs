//! The caller's text, and errors at places in it.

use naga::Span;

use crate::error::SpecError;

/// The caller's text and the field that holds it.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) text: String,
    pub(super) field: String,
}

impl Source {
    /// An error at an offset of the text.
    pub(super) fn error(&self, offset: usize, message: impl Into<String>) -> SpecError {
        let mut end = offset.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &self.text[..end];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        SpecError::Wgsl {
            field: self.field.clone(),
            line: before.matches('\n').count() as u32 + 1,
            column: before[line_start..].chars().count() as u32 + 1,
            message: message.into(),
        }
    }

    /// A parser's error at its first label, the primary one, that lies in the caller's text.
    pub(super) fn parse_error(&self, error: &naga::front::wgsl::ParseError) -> SpecError {
        let own = |span: &Span| span.to_range().is_some_and(|range| range.start < self.text.len());
        let detail = error.labels().next().map_or("", |(_, label)| label);
        let message = match detail {
            "" => error.message().to_owned(),
            detail => format!("{}: {detail}", error.message()),
        };
        self.error_in(error.labels().map(|(span, _)| span).find(own), message)
    }

    /// The error at the narrowest of `spans` that lies in the caller's text; else at its end.
    pub(super) fn error_in(
        &self,
        spans: impl IntoIterator<Item = Span>,
        message: String,
    ) -> SpecError {
        let ranges = spans.into_iter().filter_map(Span::to_range);
        let own = ranges.filter(|range| range.start < self.text.len()).min_by_key(|r| r.len());
        self.error(own.map_or(self.text.trim_end().len(), |range| range.start), message)
    }
}
