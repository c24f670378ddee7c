-- Shared arithmetic. Temporary: each connection makes its own.

-- Whether a status code says that the key may not do this.
CREATE OR REPLACE TEMP MACRO is_denied(status_class) AS status_class IN ('401', '403');

-- Whether it says that the request was carried out; of a log without status codes each was.
CREATE OR REPLACE TEMP MACRO is_accepted(status_class) AS
    status_class IN ('-', '1xx', '2xx', '3xx');

-- The days of a set of days: a bit for each day from the first on.
CREATE OR REPLACE TEMP MACRO days_in(days, first) AS
    list_transform(
        list_filter(range(length(days)), lambda number: get_bit(days, number::INTEGER) = 1),
        lambda number: first + number::INTEGER);

-- Bits of an observation that had probability p.
CREATE OR REPLACE TEMP MACRO bits(p) AS greatest(0.0, -log2(least(1.0, greatest(p, 1e-12))));

-- Predictive probability that the next trial is a hit after `hits` in `trials`, with a Beta prior
-- of mean `prior` that weighs as much as `strength` trials.
CREATE OR REPLACE TEMP MACRO predictive(hits, trials, prior, strength) AS
    (hits + strength * prior) / (greatest(trials, hits) + strength);

-- How probable it is that the next value is a new one, where `hits` of `trials` were; sure at the
-- first.
CREATE OR REPLACE TEMP MACRO novelty(hits, trials, prior, strength) AS
    CASE WHEN trials < 0 THEN 1.0 ELSE predictive(hits, trials, prior, strength) END;

-- Bits of a count of at least x where the mean is mu and the shape r (small r: uneven days).
-- Chernoff's bound on the upper tail of the negative binomial (Gamma-Poisson) distribution.
CREATE OR REPLACE TEMP MACRO tail_bits(x, mu, r) AS
    CASE WHEN x <= mu OR mu <= 0 THEN 0.0
    ELSE (x * ln(x * (r + mu) / (mu * (r + x))) + r * ln((r + mu) / (r + x))) / ln(2) END;

-- Bits of no event at all where so many are expected: a Gamma-Poisson of shape 1/2, for days are
-- uneven.
CREATE OR REPLACE TEMP MACRO silence_bits(mu) AS 0.5 * log2(1 + mu / 0.5);

-- Bits of at least x of n where each has the probability p: Chernoff's bound on the binomial's
-- upper tail.
CREATE OR REPLACE TEMP MACRO binomial_tail_bits(x, n, p) AS
    CASE WHEN x <= n * p THEN 0.0
    ELSE x * log2(x / (n * p))
        + CASE WHEN x = n THEN 0.0 ELSE (n - x) * log2((n - x) / (n * (1 - p))) END
    END;

-- Natural logarithm of the density of a normal distribution at x, less its constant.
CREATE OR REPLACE TEMP MACRO log_density(x, mean, variance) AS
    -0.5 * ln(variance) - pow(x - mean, 2) / (2 * variance);

-- A time as UTC: RFC 3339, seconds, milli-, micro- or nanoseconds since 1970, or as access logs
-- have it (30/Sep/2026:10:00:01 +0200); null when it is none. One without an offset is of `zone`;
-- null where that is null. No clock is more than 14 hours from UTC. A leap second is the second
-- before it.
-- The cast to TIMESTAMP would drop an offset without a word: it serves for Z only.
CREATE OR REPLACE TEMP MACRO utc(text, zone := NULL) AS coalesce(
    CASE WHEN suffix(text, 'Z') AND strlen(text) BETWEEN 20 AND 30
        THEN try_cast(text AS TIMESTAMP) END,
    CASE
        WHEN regexp_full_match(
            text, '\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)? ?'
            || '([Zz]|UTC|[+-]((0\d|1[0-3])(:?[0-5]\d)?|14(:?00)?))'
        ) THEN make_timestamp(epoch_us(try_cast(regexp_replace(
            regexp_replace(
                regexp_replace(upper(text), ' ?UTC$', 'Z'), '(:\d\d):60(\.\d+)?', '\1:59'),
            ' ?([+-]\d\d):?(\d\d)?$', '\1:\2') AS TIMESTAMPTZ)))
        WHEN zone IS NOT NULL
            AND regexp_full_match(text, '\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d([.,]\d+)?')
            THEN make_timestamp(epoch_us(timezone(zone::VARCHAR, try_cast(
                regexp_replace(replace(upper(text), ',', '.'), '(:\d\d):60(\.\d+)?$', '\1:59')
                AS TIMESTAMP))))
        WHEN regexp_full_match(text, '\d{9,10}(\.\d+)?')
            THEN make_timestamp(round(try_cast(text AS DECIMAL(20, 9)) * 1000000)::BIGINT)
        WHEN regexp_full_match(text, '\d{12,13}(\.\d+)?')
            THEN make_timestamp(round(try_cast(text AS DECIMAL(25, 6)) * 1000)::BIGINT)
        WHEN regexp_full_match(text, '\d{15,16}') THEN make_timestamp(try_cast(text AS BIGINT))
        WHEN regexp_full_match(text, '\d{18,19}')
            THEN make_timestamp(try_cast(text AS BIGINT) // 1000)
        WHEN regexp_full_match(
            text, '\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]((0\d|1[0-3])[0-5]\d|1400)'
        ) THEN make_timestamp(epoch_us(try_strptime(text, '%d/%b/%Y:%H:%M:%S %z')))
    END
);

-- An address without its port, brackets or IPv4-in-IPv6 dress; other text is left alone.
CREATE OR REPLACE TEMP MACRO clean_address(a) AS
    CASE
        WHEN a IS NULL THEN ''
        WHEN regexp_full_match(a, '[0-9.]{7,15}') THEN a
        ELSE left(regexp_replace(
            CASE
                WHEN regexp_full_match(trim(a), '[0-9.]{7,15}:[0-9]{1,5}')
                    THEN split_part(trim(a), ':', 1)
                WHEN regexp_full_match(trim(a), '\[[0-9A-Fa-f:.]+(%[^\]]*)?\](:[0-9]{1,5})?')
                    THEN lower(regexp_extract(a, '\[([^\]%]*)', 1))
                WHEN regexp_full_match(trim(a), '[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*')
                    THEN lower(trim(a))
                ELSE trim(a)
            END, '^::ffff:([0-9]+\.[0-9.]+)$', '\1'), 100)
    END;

-- A path segment that names an object: numbers, lists of them, dates, addresses, UUIDs, hex,
-- base 32, prefixed and long tokens.
CREATE OR REPLACE TEMP MACRO id_pattern() AS
    '\d+(?:[-,:]\d+)*|\d+(?:\.\d+){3}|\d{4}-\d\d-\d\d[Tt][^/]*'
    || '|[0-9a-fA-F]{0,4}(?::[0-9a-fA-F]{0,4}){2,7}|[a-z]{2,8}-\d{3,}'
    || '|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-fA-F]{12,}|[A-Z2-7]{16,}'
    || '|[a-z]{2,8}_[A-Za-z0-9]*[0-9][A-Za-z0-9]*|[A-Za-z0-9_]{24,}|[^/]*[…@{}][^/]*';

-- Product and major version of a user agent; a browser without its version.
CREATE OR REPLACE TEMP MACRO agent_of(user_agent) AS
    CASE
        WHEN coalesce(user_agent, '') = '' THEN '(none)'
        WHEN starts_with(user_agent, 'Mozilla/') THEN 'browser ' || coalesce(nullif(regexp_extract(
            user_agent, '(Edg|OPR|SamsungBrowser|Firefox|CriOS|FxiOS|Chrome|Safari)/', 1), ''),
            'other')
        ELSE regexp_extract(user_agent, '^\[?\s*([^\s\[\]/]{1,40}(?:/v?\d{1,4})?)', 1)
    END;

-- One word for an environment, however it is written: Production and prod are the same.
CREATE OR REPLACE TEMP MACRO environment_word(environment) AS
    CASE lower(trim(environment))
        WHEN 'production' THEN 'prod' WHEN 'staging' THEN 'stg' WHEN 'development' THEN 'dev'
        ELSE lower(trim(environment)) END;

-- Whether a key with these scopes may do what needs this one: it has it, all of its kind, or
-- everything.
CREATE OR REPLACE TEMP MACRO grants(scopes, scope) AS
    list_has_any(scopes, [scope, split_part(scope, ':', 1) || ':*', 'admin:*', '*']);

-- '1 request', '2 requests'; `ending` is what the plural adds.
CREATE OR REPLACE TEMP MACRO counted(n, noun, ending := 's') AS
    format('{} {}{}', n::BIGINT, noun, CASE WHEN n = 1 THEN '' ELSE ending END);

-- 'on 2026-09-30', 'from 2026-09-30 to 2026-10-02'.
CREATE OR REPLACE TEMP MACRO days_between(first_day, last_day) AS
    CASE WHEN first_day = last_day THEN format('on {}', first_day)
    ELSE format('from {} to {}', first_day, last_day) END;

-- '900 bytes', '1.2 MB'; decimal units.
CREATE OR REPLACE TEMP MACRO bytes(n) AS CASE
    WHEN n >= 1e9 THEN format('{:.1f} GB', n / 1e9)
    WHEN n >= 1e6 THEN format('{:.1f} MB', n / 1e6)
    WHEN n >= 1e3 THEN format('{:.1f} kB', n / 1e3)
    ELSE counted(n, 'byte') END;

-- Kilometres between two places in degrees, over a sphere of the Earth's mean radius (haversine).
CREATE OR REPLACE TEMP MACRO great_circle_km(
    latitude, longitude, other_latitude, other_longitude
) AS
    2 * 6371.0088 * asin(sqrt(
        pow(sin(radians(other_latitude - latitude) / 2), 2)
        + cos(radians(latitude)) * cos(radians(other_latitude))
            * pow(sin(radians(other_longitude - longitude) / 2), 2)));

-- 'AS8075 Microsoft Corporation, DE', or what kind of address it is where no database places it.
CREATE OR REPLACE TEMP MACRO place_of(class, asn, organization, country, located) AS
    CASE WHEN located THEN concat_ws(', ', concat_ws(' ', 'AS' || asn, organization),
        nullif(country, '-')) ELSE class || ' address' END;

-- A key's name, and what was added to it at a rotation: -v2, (v2), -new, a month or a day.
CREATE OR REPLACE TEMP MACRO rotation_pattern() AS
    '^(.*[^-_ .(])(?:[-_ .]+\(?|\()(v\d{1,3}|old|new|next|rotated|20\d\d-(?:0[1-9]|1[0-2])'
    || '(?:-(?:0[1-9]|[12]\d|3[01]))?|20\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01]))\)?$';

-- A key as it is shown, less its hash, and with one sign for what is left out.
CREATE OR REPLACE TEMP MACRO masked_part("key") AS
    regexp_replace(split_part("key", '#', 1), '\.{3}|\*{2,}', '…');

-- A number to add up: the sum of doubles depends on their order, which no query gives, and so on
-- how many others are in the table.
CREATE OR REPLACE TEMP MACRO exact(x) AS x::DECIMAL(38, 12);

-- In billionths, as a whole number.
CREATE OR REPLACE TEMP MACRO billionths(x) AS round(x * 1e9)::HUGEINT;

-- The variance (of the population) of whole numbers, in any order.
CREATE OR REPLACE TEMP MACRO exact_var(x) AS
    (count(x) * sum(x::HUGEINT * x) - sum(x) * sum(x)) / (count(x) * count(x));
