//! Times as Go writes them into JSON.

/// Nanoseconds since 1970 of a time such as `2026-11-28T08:00:00.123456789+01:00`. `None` for the
/// time that Go calls zero, and for what is no time.
pub fn parse(text: &str) -> Option<i64> {
    let (date, time) = text.split_once('T')?;
    let clock_length = time.find(['Z', '+', '-'])?;
    let (clock, zone) = time.split_at(clock_length);
    let [year, month, day] = numbers(date, '-')?;
    if year <= 1 {
        return None;
    }
    let (whole, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let [hour, minute, second] = numbers(whole, ':')?;
    let nanoseconds: i64 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    let minutes_east = match zone.split_at_checked(1)? {
        ("Z", "") => 0,
        (sign, rest) => {
            let (hours, minutes) = rest.split_once(':')?;
            let minutes = hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?;
            if sign == "-" { -minutes } else { minutes }
        }
    };
    let minutes = (days(year, month, day) * 24 + hour) * 60 + minute - minutes_east;
    minutes
        .checked_mul(60)?
        .checked_add(second)?
        .checked_mul(1_000_000_000)?
        .checked_add(nanoseconds)
}

fn numbers(text: &str, separator: char) -> Option<[i64; 3]> {
    let numbers: Vec<i64> =
        text.split(separator).map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let numbers = <[i64; 3]>::try_from(numbers).ok()?;
    numbers.iter().all(|number| (0..=9999).contains(number)).then_some(numbers)
}

/// Days from 1970-01-01 to a day of the Gregorian calendar. The year begins in March, so that a
/// leap day is its last day.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    let days_before_month = (153 * month + 2) / 5;
    // From 0000-03-01 to 1970-01-01 there are 719,468 days.
    year * 365 + leap_days + days_before_month + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_every_zone_are_understood() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T23:59:59Z", 951_868_799),
            ("2026-11-28T08:00:00+01:00", 1_795_849_200),
            ("2026-11-28T02:30:00-04:30", 1_795_849_200),
        ] {
            assert_eq!(parse(text), Some(seconds * 1_000_000_000), "{text}");
        }
        assert_eq!(parse("1970-01-01T00:00:01.5Z"), Some(1_500_000_000));
        assert_eq!(parse("1970-01-01T00:00:00.000000007Z"), Some(7));
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "0001-01-01T00:00:00Z",
            "",
            "T",
            "2026-11-28",
            "2026-11-28T08:00:00",
            "2026-11T08:00:00Z",
            "2026-11-28T08:00:00+",
            "99999-11-28T08:00:00Z",
            "9999-12-31T23:59:59Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
