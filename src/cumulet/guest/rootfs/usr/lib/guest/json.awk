# A JSON document as lines of "path TAB value", one for each string, number or word; a path's parts are joined by "/".
# Newlines in values become spaces, as a line is a value.
function skip(count) { text = substr(text, count + 1) }

function space() { sub(/^[ \t\r\n]+/, "", text) }

function string(   out, escaped) {          # text stands after the opening quote, and will after the closing one
  out = ""
  while (match(text, /["\\]/)) {
    out = out substr(text, 1, RSTART - 1)
    escaped = substr(text, RSTART, 1) == "\\" ? substr(text, RSTART + 1, 1) : ""
    skip(RSTART)
    if (escaped == "") return out
    skip(1)
    if (escaped == "u") out = out utf8(code())
    else if (escaped ~ /[bfnrt]/) out = out " "
    else out = out escaped
  }
  text = ""
  return out
}

function code(   n, i) {                    # of the four digits that text stands before
  n = 0
  for (i = 1; i <= 4; i++) n = n * 16 + index("0123456789abcdef", tolower(substr(text, i, 1))) - 1
  skip(4)
  if (n < 55296 || n > 56319 || text !~ /^\\u/) return n
  skip(2)
  return 65536 + (n - 55296) * 1024 + code() - 56320        # the second half of a pair
}

function utf8(n) {
  if (n < 32) return " "
  if (n < 128) return sprintf("%c", n)
  if (n < 2048) return sprintf("%c", 192 + int(n / 64)) tail(n)
  if (n < 65536) return sprintf("%c", 224 + int(n / 4096)) tail(int(n / 64)) tail(n)
  return sprintf("%c", 240 + int(n / 262144)) tail(int(n / 4096)) tail(int(n / 64)) tail(n)
}

function tail(n) { return sprintf("%c", 128 + n % 64) }

function members(path, named,   n, key) {   # text stands after the opening bracket
  for (n = 0; ; n++) {
    space()
    if (text ~ /^,/) { skip(1); space() }
    if (text == "" || text ~ /^[]}]/) { skip(1); return }
    key = n
    if (named) {
      skip(1)
      key = string()
      skip(index(text, ":"))
    }
    value(path == "" ? key : path "/" key)
  }
}

function value(path,   first) {
  space()
  first = substr(text, 1, 1)
  if (first == "{" || first == "[") { skip(1); members(path, first == "{"); return }
  if (first == "\"") { skip(1); print path "\t" string(); return }
  match(text, /^[^] \t\r\n,}]*/)
  if (RLENGTH < 1) { text = ""; return }
  print path "\t" substr(text, 1, RLENGTH)
  skip(RLENGTH)
}

{ text = text $0 "\n" }
END { value("") }
