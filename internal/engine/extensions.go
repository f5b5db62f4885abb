package engine

import (
	"net/url"
	"slices"
	"strings"

	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc3986"
)

// extensionTypes are the types that files with these extensions have, as beginnings of
// media types; "+xml" and "+json" are suffixes. An origin that routes by prefix answers
// /account/x.css with the account page; whoever lures a user there could read the page
// from the cache. Extensions whose files are commonly rendered as pages, such as md and
// php, are not here.
var extensionTypes = map[string][]string{
	"css":  {"text/css"},
	"js":   scripts,
	"mjs":  scripts,
	"cjs":  scripts,
	"map":  {"application/json", octets, "text/plain"},
	"wasm": {"application/wasm"},
	"png":  {"image/"}, "jpg": {"image/"}, "jpeg": {"image/"}, "gif": {"image/"}, "webp": {"image/"},
	"avif": {"image/"}, "svg": {"image/"}, "ico": {"image/"}, "bmp": {"image/"}, "tif": {"image/"}, "tiff": {"image/"},
	"heic": {"image/"}, "jxl": {"image/"}, "svgz": {"image/"},
	"woff": {"font/", "application/"}, "woff2": {"font/", "application/"}, "ttf": {"font/", "application/"},
	"otf": {"font/", "application/"}, "eot": {"font/", "application/"},
	"mp3": {"audio/"}, "ogg": {"audio/", "video/", "application/ogg"}, "wav": {"audio/"}, "flac": {"audio/"},
	"m4a": {"audio/", "video/"}, "aac": {"audio/"}, "opus": {"audio/"},
	"mp4": {"video/", "audio/"}, "webm": {"video/", "audio/"}, "mov": {"video/"}, "avi": {"video/"}, "mkv": {"video/"},
	"m4v": {"video/"}, "m3u8": {"application/", "audio/"}, "mpd": xmlTypes, "vtt": {"text/"}, "srt": {"text/", "application/"},
	"pdf": {"application/pdf"}, "zip": {"application/"}, "gz": {"application/"}, "tgz": {"application/"}, "7z": {"application/"},
	"bz2": {"application/"}, "xz": {"application/"}, "zst": {"application/"}, "tar": {"application/"}, "rar": {"application/"},
	"bin": {"application/"}, "exe": {"application/"}, "dmg": {"application/"}, "iso": {"application/"}, "apk": {"application/"},
	"jar": {"application/"}, "epub": {"application/"}, "rtf": {"application/rtf", "text/rtf"},
	"doc": {"application/"}, "docx": {"application/"}, "xls": {"application/"}, "xlsx": {"application/"},
	"ppt": {"application/"}, "pptx": {"application/"}, "csv": {"text/", "application/"}, "tsv": {"text/", "application/"},
	"swf": {"application/"}, "class": {"application/"}, "ps": {"application/"}, "eps": {"application/", "image/"},
	"txt": plain, "text": plain, "log": plain, "ics": plain, "vcf": plain, "yaml": plainOrCode, "yml": plainOrCode, "toml": plainOrCode,
	"html": pages, "htm": pages, "shtml": pages, "xhtml": pages, "xht": pages,
	"xml": xmlTypes, "rss": xmlTypes, "atom": xmlTypes, "rdf": xmlTypes, "xsl": xmlTypes, "xslt": xmlTypes, "xsd": xmlTypes,
	"opml": xmlTypes, "kml": xmlTypes, "gpx": xmlTypes, "wsdl": xmlTypes,
	"json": jsonTypes, "jsonld": jsonTypes, "geojson": jsonTypes, "topojson": jsonTypes, "webmanifest": jsonTypes, "har": jsonTypes,
	"ndjson": jsonTypes, "jsonl": jsonTypes,
}

const octets = "application/octet-stream"

var (
	scripts     = []string{"text/javascript", "application/javascript", "application/x-javascript"}
	plain       = []string{"text/", octets}
	plainOrCode = []string{"text/", octets, "application/yaml", "application/x-yaml", "application/toml"}
	pages       = []string{"text/", "text/html", xhtml}
	xmlTypes    = []string{"text/", "application/xml", "application/rss", "application/atom", "application/rdf", "+xml", octets}
	jsonTypes   = []string{
		"application/json", "text/", "+json", "application/javascript", "application/x-ndjson", "application/ndjson", "application/jsonl",
		"application/geo+json", octets,
	}
)

// contradictsExtension reports whether the last segment of a path, with its parameters
// or without them, ends like a static file of another type. A response without a type
// contradicts: what it is nobody has said.
func contradictsExtension(path, contentType string) bool {
	mediaType, _, _ := strings.Cut(strings.ReplaceAll(contentType, ",", ";"), ";")
	mediaType = strings.ToLower(strings.TrimSpace(mediaType))
	if rfc3986.KindOf(path) != rfc3986.PathPlain && contradicts(rfc3986.WithoutParams(path), mediaType) {
		return true
	}
	return contradicts(path, mediaType)
}

func contradicts(path, mediaType string) bool {
	if decoded, err := url.PathUnescape(path); err == nil {
		path = decoded
	}
	dot := strings.LastIndexByte(path, '.')
	if dot < 0 {
		return false
	}
	types, known := extensionTypes[strings.ToLower(path[dot+1:])]
	return known && !fits(types, mediaType)
}

// fits reports whether a media type is one of types. What pages and answers of
// applications are is not meant by the beginning of a type: it has to be named.
func fits(types []string, mediaType string) bool {
	named := isPage(mediaType)
	return slices.ContainsFunc(types, func(t string) bool {
		switch {
		case t[0] == '+':
			return strings.HasSuffix(mediaType, t) && mediaType != xhtml
		case named:
			return t == mediaType
		}
		return strings.HasPrefix(mediaType, t)
	})
}

// isPage reports whether an account page, or what an application answers about an
// account, may be of a media type.
func isPage(mediaType string) bool {
	return mediaType == "text/html" || mediaType == xhtml ||
		strings.HasPrefix(mediaType, "application/json") || strings.HasSuffix(mediaType, "+json")
}

const xhtml = "application/xhtml+xml"
