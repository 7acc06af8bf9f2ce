//! When a request may be sent again.

use hyper::Method;

/// What became of a request that has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    /// Whether something of it may have reached a replica.
    pub(crate) sent: bool,
    /// Whether sending it twice does what sending it once does.
    pub(crate) repeatable: bool,
    /// Whether all of its body can be sent again.
    pub(crate) whole: bool,
    /// How often it may still be sent again after it was sent.
    pub(crate) left: u32,
}

impl Attempt {
    /// Whether it goes to a replica again. What never reached one always may.
    pub(crate) fn again(self) -> bool {
        self.whole && (!self.sent || (self.repeatable && self.left > 0))
    }
}

/// Whether doing it twice is doing it once, by what its method promises.
pub(crate) fn is_repeatable(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_sent_again_only_if_that_does_no_harm() {
        let never = Attempt { sent: false, repeatable: false, whole: true, left: 0 };
        assert!(never.again());
        assert!(!Attempt { whole: false, ..never }.again());
        let sent = Attempt { sent: true, repeatable: true, whole: true, left: 1 };
        assert!(sent.again());
        assert!(!Attempt { repeatable: false, ..sent }.again());
        assert!(!Attempt { whole: false, ..sent }.again());
        assert!(!Attempt { left: 0, ..sent }.again());
        assert!(is_repeatable(&Method::GET) && is_repeatable(&Method::PUT));
        assert!(!is_repeatable(&Method::POST) && !is_repeatable(&Method::PATCH));
    }
}
