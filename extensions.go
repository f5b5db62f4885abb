package rediscache

import (
	"net/url"
	"strings"
)

// extensionTypes are the types that files with these extensions have. An origin
// that routes by prefix answers /account/x.css with the account page; whoever
// lures a user there could read the page from the cache.
var extensionTypes = map[string][]string{
	"css":  {"text/css"},
	"js":   {"text/javascript", "application/javascript", "application/x-javascript"},
	"mjs":  {"text/javascript", "application/javascript", "application/x-javascript"},
	"map":  {"application/json", "application/octet-stream", "text/plain"},
	"wasm": {"application/wasm"},
	"png":  {"image/"}, "jpg": {"image/"}, "jpeg": {"image/"}, "gif": {"image/"}, "webp": {"image/"},
	"avif": {"image/"}, "svg": {"image/"}, "ico": {"image/"}, "bmp": {"image/"}, "tif": {"image/"}, "tiff": {"image/"},
	"woff": {"font/", "application/"}, "woff2": {"font/", "application/"}, "ttf": {"font/", "application/"},
	"otf": {"font/", "application/"}, "eot": {"font/", "application/"},
	"mp3": {"audio/"}, "ogg": {"audio/", "video/", "application/ogg"}, "wav": {"audio/"}, "flac": {"audio/"},
	"mp4": {"video/", "audio/"}, "webm": {"video/", "audio/"}, "mov": {"video/"}, "avi": {"video/"},
	"pdf": {"application/pdf"}, "zip": {"application/"}, "gz": {"application/"}, "7z": {"application/"},
	"doc": {"application/"}, "docx": {"application/"}, "xls": {"application/"}, "xlsx": {"application/"},
	"ppt": {"application/"}, "pptx": {"application/"}, "csv": {"text/csv", "application/"}, "swf": {"application/"},
}

// contradictsExtension reports whether the last segment of a path ends like a
// static file of another type. A response without a type contradicts: what it
// is nobody has said.
func contradictsExtension(path, contentType string) bool {
	if decoded, err := url.PathUnescape(path); err == nil {
		path = decoded
	}
	dot := strings.LastIndexByte(path, '.')
	if dot < 0 {
		return false
	}
	types, known := extensionTypes[strings.ToLower(path[dot+1:])]
	if !known {
		return false
	}
	contentType = strings.ToLower(contentType)
	if strings.HasPrefix(contentType, "application/json") || strings.HasPrefix(contentType, "application/xhtml") {
		return path[dot+1:] != "map"
	}
	for _, prefix := range types {
		if strings.HasPrefix(contentType, prefix) {
			return false
		}
	}
	return true
}
