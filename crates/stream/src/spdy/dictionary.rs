//! The text both sides prime zlib with before the first header block (SPDY/3 draft, section 2.6.10.1).
//!
//! Contract: 1423 bytes, Adler-32 e3c6a7c2: 83 names and values each led by its length, then bare values.

use std::sync::LazyLock;

const PREFIXED: &str = "options|head|post|put|delete|trace|accept|accept-charset|accept-encoding|accept-language|\
accept-ranges|age|allow|authorization|cache-control|connection|content-base|content-encoding|content-language|\
content-length|content-location|content-md5|content-range|content-type|date|etag|expect|expires|from|host|if-match|\
if-modified-since|if-none-match|if-range|if-unmodified-since|last-modified|location|max-forwards|pragma|\
proxy-authenticate|proxy-authorization|range|referer|retry-after|server|te|trailer|transfer-encoding|upgrade|\
user-agent|vary|via|warning|www-authenticate|method|get|status|200 OK|version|HTTP/1.1|url|public|set-cookie|\
keep-alive|origin";

const BARE: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505\
203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden\
404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable\
Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT\
chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,\
publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

pub(crate) static DICTIONARY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let prefixed =
        PREFIXED.split('|').flat_map(|text| [&(text.len() as u32).to_be_bytes()[..], text.as_bytes()].concat());
    prefixed.chain(BARE.bytes()).collect()
});
