//! Resource quantities and int-or-percent values.
//!
//! A [`Quantity`] is a fixed-point number of nano units with the notation it was written in. Parsing accepts decimal
//! (`n u m "" k M G T P E`), binary (`Ki … Ei`) and exponent (`e3`) suffixes; anything finer than a nano is rounded
//! away from zero; printing gives Kubernetes' canonical form (`1.5` → `1500m`, `1536Mi` stays, `1024Mi` → `1Gi`).
//! Percentages of an [`IntOrPercent`] round up or down as the caller asks (S-09 rounds down, Q-04 up).

use std::cmp::Ordering;
use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;

use serde_json::Value;

/// Nano units in one.
const NANO: i128 = 1_000_000_000;
/// Binary quantities above this are capped to it, as Kubernetes caps them.
const BINARY_MAX: i128 = i64::MAX as i128 * NANO;
/// More digits than this cannot matter and would overflow: i128 holds 38.
const DIGITS_MAX: usize = 120;

/// The notation a quantity was written in, kept for printing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    DecimalSi,
    BinarySi,
    DecimalExponent,
}

/// A number of units with nano precision. Equality and order look at the amount alone.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nano: i128,
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse quantity's suffix")]
    Suffix,
    #[error("unable to parse numeric part of quantity")]
    Numeric,
}

impl Quantity {
    pub const ZERO: Quantity = Quantity { nano: 0, format: Format::DecimalSi };

    pub fn from_int(value: i64) -> Quantity {
        Quantity { nano: value as i128 * NANO, format: Format::DecimalSi }
    }

    pub fn from_milli(value: i64) -> Quantity {
        Quantity { nano: value as i128 * (NANO / 1000), format: Format::DecimalSi }
    }

    pub fn from_bytes(value: i64) -> Quantity {
        Quantity { nano: value as i128 * NANO, format: Format::BinarySi }
    }

    /// Whole units, rounded up (away from zero), saturating.
    pub fn value(&self) -> i64 {
        saturate(div_away(self.nano, NANO))
    }

    /// Thousandths, rounded up (away from zero), saturating.
    pub fn milli_value(&self) -> i64 {
        saturate(div_away(self.nano, NANO / 1000))
    }

    pub fn is_zero(&self) -> bool {
        self.nano == 0
    }

    /// -1, 0 or 1.
    pub fn sign(&self) -> i32 {
        self.nano.signum() as i32
    }

    pub fn format(&self) -> Format {
        self.format
    }

    /// A quantity as JSON carries it: a string or a number.
    pub fn from_value(value: &Value) -> Result<Quantity, QuantityError> {
        match value {
            Value::String(text) => text.trim().parse(),
            Value::Number(number) => number.to_string().parse(),
            _ => Err(QuantityError::Format),
        }
    }
}

/// The sum; a zero takes the other's notation, as Kubernetes does.
impl Add for Quantity {
    type Output = Quantity;

    fn add(self, other: Quantity) -> Quantity {
        let format = if self.nano == 0 { other.format } else { self.format };
        Quantity { nano: self.nano.saturating_add(other.nano), format }
    }
}

impl Sub for Quantity {
    type Output = Quantity;

    fn sub(self, other: Quantity) -> Quantity {
        let format = if self.nano == 0 { other.format } else { self.format };
        Quantity { nano: self.nano.saturating_sub(other.nano), format }
    }
}

/// The canonical text of a quantity written any way, or why it is none.
pub fn canonical(text: &str) -> Result<String, QuantityError> {
    text.parse::<Quantity>().map(|quantity| quantity.to_string())
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}
impl Eq for Quantity {}
impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Quantity, QuantityError> {
        let (negative, unsigned) = match text.as_bytes().first() {
            None => return Err(QuantityError::Format),
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            Some(_) => (false, text),
        };
        let number_end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(number_end);
        check_suffix_letters(suffix)?;
        let (whole, fraction) = match number.split_once('.') {
            Some((whole, fraction)) => (whole, fraction),
            None => (number, ""),
        };
        if fraction.contains('.') {
            return Err(QuantityError::Format);
        }
        if whole.is_empty() && fraction.is_empty() {
            return Err(QuantityError::Numeric);
        }
        let (scale, mut format) = parse_suffix(suffix)?;
        let mut nano = scaled(whole, fraction, scale);
        if format == Format::BinarySi {
            nano = nano.min(BINARY_MAX);
            if nano > 0 && nano < NANO {
                format = Format::DecimalSi;
            }
        }
        Ok(Quantity { nano: if negative { -nano } else { nano }, format })
    }
}

/// What a suffix multiplies by.
#[derive(Clone, Copy)]
enum Scale {
    Ten(i32),
    Two(u32),
}

/// A suffix is letters, then an optional sign and digits; anything else is not a quantity at all.
fn check_suffix_letters(suffix: &str) -> Result<(), QuantityError> {
    let rest = suffix.trim_start_matches(|c: char| "eEinumkKMGTP".contains(c));
    let digits = rest.strip_prefix(['-', '+']).unwrap_or(rest);
    if digits.chars().all(|c| c.is_ascii_digit()) { Ok(()) } else { Err(QuantityError::Format) }
}

fn parse_suffix(suffix: &str) -> Result<(Scale, Format), QuantityError> {
    let decimal = |power| Ok((Scale::Ten(power), Format::DecimalSi));
    let binary = |power| Ok((Scale::Two(power), Format::BinarySi));
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E']).ok_or(QuantityError::Suffix)?;
            let power: i32 = exponent.parse().map_err(|_| QuantityError::Suffix)?;
            Ok((Scale::Ten(power), Format::DecimalExponent))
        }
    }
}

/// `whole.fraction` times the scale, in nano units, rounded up, saturating.
fn scaled(whole: &str, fraction: &str, scale: Scale) -> i128 {
    let whole = whole.trim_start_matches('0');
    let fraction = &fraction[..fraction.len().min(DIGITS_MAX)];
    let (power, factor) = match scale {
        Scale::Ten(power) => (power.saturating_add(9), 1),
        Scale::Two(power) => (9, 1i128 << power),
    };
    // The decimal point of `whole ++ fraction` moves right by `power` places.
    let point = (whole.len() as i64).saturating_add(power as i64);
    let mut amount: i128 = 0;
    let mut rest_is_zero = true;
    let digits = whole.bytes().chain(fraction.bytes()).map(|digit| (digit - b'0') as i128);
    if factor == 1 {
        let mut taken: i64 = 0;
        for digit in digits {
            if taken < point {
                amount = amount.saturating_mul(10).saturating_add(digit);
            } else {
                rest_is_zero &= digit == 0;
            }
            taken += 1;
        }
        for _ in taken..point.min(taken + 60) {
            amount = amount.saturating_mul(10);
        }
        return if rest_is_zero { amount } else { amount.saturating_add(1) };
    }
    // Binary: value × 2^n can have more decimals than nano; multiply the integer part and the fraction apart.
    let mut integer: i128 = 0;
    for digit in whole.bytes() {
        integer = integer.saturating_mul(10).saturating_add((digit - b'0') as i128);
    }
    amount = integer.saturating_mul(NANO).saturating_mul(factor);
    let mut numerator: i128 = 0;
    let mut denominator: i128 = 1;
    for digit in fraction.bytes().take(18) {
        numerator = numerator * 10 + (digit - b'0') as i128;
        denominator *= 10;
    }
    // numerator < 10^18, factor ≤ 2^60: the product fits; the nano part is taken from the remainder.
    let product = numerator * factor;
    let (quotient, remainder) = (product / denominator, product % denominator);
    let nanos = div_away(remainder * NANO, denominator);
    amount.saturating_add(quotient.saturating_mul(NANO)).saturating_add(nanos)
}

fn div_away(value: i128, by: i128) -> i128 {
    let quotient = value / by;
    if value % by == 0 { quotient } else { quotient + value.signum() }
}

fn saturate(value: i128) -> i64 {
    value.clamp(i64::MIN as i128, i64::MAX as i128) as i64
}

impl fmt::Display for Quantity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nano == 0 {
            return out.write_str("0");
        }
        let kilo = 1024 * NANO;
        if self.format == Format::BinarySi && self.nano % NANO == 0 && (self.nano >= kilo || self.nano <= -kilo) {
            let (mut number, mut steps) = (self.nano / NANO, 0);
            while number % 1024 == 0 && steps < 6 {
                number /= 1024;
                steps += 1;
            }
            return write!(out, "{number}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][steps]);
        }
        let (mut number, mut power) = (self.nano, -9);
        while number % 1000 == 0 && power < 18 {
            number /= 1000;
            power += 3;
        }
        if self.format == Format::DecimalExponent {
            return if power == 0 { write!(out, "{number}") } else { write!(out, "{number}e{power}") };
        }
        let suffix = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"][((power + 9) / 3) as usize];
        write!(out, "{number}{suffix}")
    }
}

/// A number, or a percentage of some total (`maxUnavailable: 25%`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntOrPercent {
    Int(i32),
    Percent(i32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PercentError {
    #[error("invalid type: string is not a percentage")]
    NotPercent,
    #[error("invalid type: neither int nor percentage")]
    NotEither,
}

impl IntOrPercent {
    pub fn from_value(value: &Value) -> Result<IntOrPercent, PercentError> {
        match value {
            Value::Number(number) => number
                .as_i64()
                .and_then(|number| i32::try_from(number).ok())
                .map(IntOrPercent::Int)
                .ok_or(PercentError::NotEither),
            Value::String(text) => text.parse(),
            _ => Err(PercentError::NotEither),
        }
    }

    /// The number itself, or the percentage of `total` rounded as asked.
    pub fn of(self, total: i32, round_up: bool) -> i32 {
        match self {
            IntOrPercent::Int(number) => number,
            IntOrPercent::Percent(percent) => {
                let product = percent as i64 * total as i64;
                let scaled = if round_up { -(-product).div_euclid(100) } else { product.div_euclid(100) };
                scaled.clamp(i32::MIN as i64, i32::MAX as i64) as i32
            }
        }
    }
}

impl FromStr for IntOrPercent {
    type Err = PercentError;

    fn from_str(text: &str) -> Result<IntOrPercent, PercentError> {
        let digits = text.strip_suffix('%').ok_or(PercentError::NotPercent)?;
        digits.parse().map(IntOrPercent::Percent).map_err(|_| PercentError::NotPercent)
    }
}

impl TryFrom<&k8s_openapi::apimachinery::pkg::util::intstr::IntOrString> for IntOrPercent {
    type Error = PercentError;

    fn try_from(
        value: &k8s_openapi::apimachinery::pkg::util::intstr::IntOrString,
    ) -> Result<IntOrPercent, PercentError> {
        use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
        match value {
            IntOrString::Int(number) => Ok(IntOrPercent::Int(*number)),
            IntOrString::String(text) => text.parse(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, expected: &str) {
        let shown = match text.parse::<Quantity>() {
            Ok(quantity) => quantity.to_string(),
            Err(error) => format!("{error:?}"),
        };
        assert_eq!(shown, expected, "{text}");
    }

    #[test]
    fn canonical_forms() {
        for (text, expected) in [
            ("0", "0"),
            ("0Gi", "0"),
            ("1", "1"),
            ("1.5", "1500m"),
            ("0.5", "500m"),
            ("1000m", "1"),
            ("100m", "100m"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("0.1Ki", "102400m"),
            ("512", "512"),
            ("1000", "1k"),
            ("1500000", "1500k"),
            ("1e3", "1e3"),
            ("1E3", "1e3"),
            ("12e2", "1200"),
            ("1E", "1E"),
            ("1Ei", "1Ei"),
            ("100E", "100E"),
            ("99Ei", "9223372036854775807"),
            ("0.1n", "1n"),
            ("-0.1n", "-1n"),
            ("1.0000000001", "1000000001n"),
            ("-1.5Gi", "-1536Mi"),
            (".5", "500m"),
            ("5.", "5"),
            ("+3", "3"),
            ("000100", "100"),
            ("1Ki", "1Ki"),
            ("1023", "1023"),
            ("0.0009765625Ki", "1"),
        ] {
            check(text, expected);
        }
    }

    #[test]
    fn what_is_not_a_quantity() {
        for (text, expected) in [
            ("", "Format"),
            ("1.2.3", "Format"),
            ("1 Gi", "Format"),
            ("abc", "Format"),
            ("10GB", "Format"),
            ("1ki", "Suffix"),
            ("1KM", "Suffix"),
            ("1e", "Suffix"),
            ("Ki", "Numeric"),
            (".", "Numeric"),
        ] {
            check(text, expected);
        }
    }

    #[test]
    fn arithmetic_and_rounding() {
        let quantity = |text: &str| text.parse::<Quantity>().expect("a quantity");
        assert_eq!((quantity("0.5") + quantity("1Gi")).to_string(), "1073741824500m");
        assert_eq!((Quantity::ZERO + quantity("1Gi")).to_string(), "1Gi");
        assert_eq!((quantity("1Gi") - quantity("512Mi")).to_string(), "512Mi");
        assert_eq!((quantity("1100m").value(), quantity("-1100m").value()), (2, -2));
        assert_eq!(quantity("1.0001").milli_value(), 1001);
        assert!(quantity("1Gi") > quantity("1G") && quantity("1000m") == quantity("1"));
    }

    #[test]
    fn percentages_round_as_asked() {
        let percent: IntOrPercent = "25%".parse().expect("a percentage");
        assert_eq!((percent.of(10, true), percent.of(10, false)), (3, 2));
        assert_eq!(IntOrPercent::Int(7).of(1, true), 7);
        assert_eq!(
            "25".parse::<IntOrPercent>().map_err(|e| e.to_string()),
            Err("invalid type: string is not a percentage".into())
        );
    }

    proptest! {
        #[test]
        fn printing_keeps_the_amount(whole in 0u64..=u64::MAX, milli in 0u32..1000,
                                     suffix in prop::sample::select(vec!["n", "m", "", "k", "M", "Ki", "Mi", "e3", "e-3"])) {
            let text = format!("{}.{milli:03}{suffix}", whole >> 24);
            let quantity: Quantity = text.parse().unwrap();
            let again: Quantity = quantity.to_string().parse().unwrap();
            prop_assert_eq!(quantity, again);
            prop_assert_eq!(again.to_string(), quantity.to_string());
        }

        #[test]
        fn order_is_that_of_the_numbers(a in any::<i32>(), b in any::<i32>()) {
            let (x, y): (Quantity, Quantity) = (format!("{a}m").parse().unwrap(), format!("{b}m").parse().unwrap());
            prop_assert_eq!(x.cmp(&y), a.cmp(&b));
            prop_assert_eq!(x + y - y, x);
        }

        #[test]
        fn parsing_never_panics(text in "\\PC{0,40}|[-+]?[0-9.]{0,200}[eEKMi]{0,2}[-+]?[0-9]{0,12}") {
            let _ = text.parse::<Quantity>();
        }
    }
}
