//! Who may ask, and how often.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use axum::http::{HeaderMap, StatusCode, header};
use subtle::ConstantTimeEq;

use super::refusal::Refusal;

/// Addresses that are remembered before those who may ask at once are forgotten.
const REMEMBERED: usize = 10_000;

/// Fails unless a request has the token, which is compared in a time that does not depend on where it differs.
pub(super) fn expect_token(token: Option<&str>, headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(token) = token else { return Ok(()) };
    let given = headers.get(header::AUTHORIZATION).map_or(&[][..], |value| value.as_bytes());
    let given = given.split_at_checked(7).filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer ")).map_or(&[][..], |(_, token)| token);
    match bool::from(given.ct_eq(token.as_bytes())) {
        true => Ok(()),
        false => Err(Refusal::new(StatusCode::UNAUTHORIZED, "give the server's token, as in `Authorization: Bearer TOKEN`")),
    }
}

/// Requests a second that each address may send, and the same number at once.
#[derive(Debug)]
pub(super) struct Rate {
    rate: f64,
    /// Requests that an address may still send, and when that was counted.
    left: Mutex<HashMap<IpAddr, (f64, Instant)>>,
}

impl Rate {
    pub(super) fn new(rate: f64) -> Rate {
        Rate { rate, left: Mutex::default() }
    }

    /// Counts a request of an address.
    pub(super) fn expect_room(&self, address: IpAddr, now: Instant) -> Result<(), Refusal> {
        let most = self.rate.max(1.0);
        let grown = |(left, since): (f64, Instant)| (left + now.saturating_duration_since(since).as_secs_f64() * self.rate).min(most);
        let mut all = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= REMEMBERED && !all.contains_key(&address) {
            all.retain(|_, left| grown(*left) < most);
        }
        let left = grown(*all.entry(address).or_insert((most, now)));
        let fits = left >= 1.0;
        all.insert(address, (if fits { left - 1.0 } else { left }, now));
        if fits {
            return Ok(());
        }
        let message = format!("more than {} requests a second from {address}: ask more slowly", self.rate);
        Err(Refusal::again(StatusCode::TOO_MANY_REQUESTS, message, ((1.0 - left) / self.rate).ceil().max(1.0) as u64))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_address_has_its_own_rate() {
        let (rate, start) = (Rate::new(2.0), Instant::now());
        let [a, b] = [1, 2].map(|n| IpAddr::from([10, 0, 0, n]));
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        assert!(rate.expect_room(a, at(0.0)).is_ok() && rate.expect_room(a, at(0.0)).is_ok());
        let refused = rate.expect_room(a, at(0.0)).unwrap_err();
        assert!(refused.status == StatusCode::TOO_MANY_REQUESTS && refused.retry_after == Some(1), "{refused:?}");
        assert!(rate.expect_room(b, at(0.0)).is_ok());
        assert!(rate.expect_room(a, at(0.4)).is_err());
        assert!(rate.expect_room(a, at(0.6)).is_ok());
        // Whoever was silent for long has no more than the others.
        assert!(rate.expect_room(a, at(60.0)).is_ok() && rate.expect_room(a, at(60.0)).is_ok() && rate.expect_room(a, at(60.0)).is_err());
    }

    #[test]
    fn the_token_is_that_of_the_server() {
        let asked = |value: &str| HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())]);
        assert!(expect_token(None, &HeaderMap::new()).is_ok());
        assert!(expect_token(Some("abc"), &asked("Bearer abc")).is_ok() && expect_token(Some("abc"), &asked("bearer abc")).is_ok());
        for wrong in ["Bearer abd", "Bearer ab", "Bearer abcd", "abc", "Basic abc", ""] {
            assert_eq!(expect_token(Some("abc"), &asked(wrong)).unwrap_err().status, StatusCode::UNAUTHORIZED, "{wrong}");
        }
        assert!(expect_token(Some("abc"), &HeaderMap::new()).is_err());
    }
}
