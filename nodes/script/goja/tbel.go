package goja

import (
	"errors"
	"regexp"
	"strings"
)

var errBytes = errors.New("the text has characters that are no bytes")

func trimPadding(text string) string { return strings.TrimRight(text, "=") }

// javaMethods are the methods of Java's maps, lists and texts that TBEL has and JavaScript lacks; tbel.js has what they do.
var javaMethods = map[string]bool{
	"put": true, "get": true, "remove": true, "containsKey": true, "containsValue": true, "isEmpty": true, "size": true, "length": true,
	"keySet": true, "values": true, "entrySet": true, "getKey": true, "getValue": true, "putAll": true, "putIfAbsent": true,
	"getOrDefault": true, "add": true, "addAll": true, "contains": true, "clear": true, "equals": true, "equalsIgnoreCase": true,
	"matches": true, "replaceFirst": true, "isBlank": true,
}

// tbelFunctions are the functions of TBEL that tbel.js has.
var tbelFunctions = map[string]bool{
	"base64ToBytes": true, "base64ToHex": true, "bytesToBase64": true, "bytesToHex": true, "bytesToString": true,
	"decodeToJson": true, "decodeToString": true, "floatToHex": true, "hexToBytes": true, "intToHex": true, "isArray": true,
	"isList": true, "isMap": true, "isSet": true, "newSet": true, "padEnd": true, "padStart": true,
	"parseBigEndianHexToFloat": true, "parseBigEndianHexToInt": true, "parseBytesToDouble": true, "parseBytesToFloat": true,
	"parseBytesToInt": true, "parseDouble": true, "parseFloat": true, "parseHexToFloat": true, "parseHexToInt": true, "parseInt": true,
	"parseLittleEndianHexToFloat": true, "parseLittleEndianHexToInt": true, "parseLong": true, "printUnsignedBytes": true,
	"raiseError": true, "stringToBytes": true, "toFixed": true, "toFlatMap": true, "toInt": true, "toSet": true,
}

// tbelForm is something that TBEL understands and JavaScript does not.
type tbelForm struct {
	form *regexp.Regexp
	mend string
}

var tbelForms = []tbelForm{
	{regexp.MustCompile(`\bforeach\s*\(`), `TBEL's foreach is not JavaScript; write "for (let x of list) { … }"`},
	{regexp.MustCompile(`\bfor\s*\(\s*(?:[A-Za-z_][\w.]*\s+)?[A-Za-z_]\w*\s*:`), `TBEL's "for (x : list)" is not JavaScript; write "for (let x of list) { … }"`},
	{regexp.MustCompile(`\bdef\s+[A-Za-z_]\w*\s*\(`), `TBEL's def is not JavaScript; write "function name(a, b) { … }"`},
	{regexp.MustCompile(`\b(?:int|long|double|float|boolean|byte|char|String|Integer|Long|Double|Map|List|Object)\s+[A-Za-z_]\w*\s*(?:=|;)`), `TBEL's declarations with a type are not JavaScript; write "let x = …"`},
	{regexp.MustCompile(`\.\?`), `TBEL's ".?" is not JavaScript; write "?."`},
	{regexp.MustCompile(`\bimport\s+[\w.]+`), `TBEL's import is not JavaScript; take it out, Java's classes are not there`},
	{regexp.MustCompile(`\bnew\s+(?:java|org)\.`), `Java's classes are not there; use {} for a map, [] for a list`},
	{regexp.MustCompile(`\bisdef\s+\w+`), `TBEL's isdef is not JavaScript; write "typeof x != 'undefined'"`},
	{regexp.MustCompile(`(?:==|!=)\s*empty\b`), `TBEL's empty is not JavaScript; write "x.isEmpty()" or "x == null"`},
	{regexp.MustCompile(`\b(?:contains|strsim|soundslike|is)\s+['"\w]`), `TBEL's operators in words are not JavaScript; write "list.contains(x)" or "x instanceof Y"`},
	{regexp.MustCompile(`\)\s*(?:and|or)\s*\(|\b(?:and|or)\b`), `TBEL's "and" and "or" are not JavaScript; write "&&" and "||"`},
	{regexp.MustCompile(`[\[,]\s*(?:'[^']*'|"[^"]*"|\w+)\s*:`), `TBEL's maps in brackets are not JavaScript; write {"key": value}`},
	{regexp.MustCompile(`\b\d+(?:\.\d+)?[LlFfDdBbIi]\b`), `TBEL's numbers with a letter for the type are not JavaScript; leave the letter out`},
	{regexp.MustCompile(`\buntil\s*\(`), `TBEL's until is not JavaScript; write "while (!(…))"`},
	{regexp.MustCompile(`\bwith\s*\(`), `TBEL's with is not JavaScript; name the object each time`},
}

// onlyTBEL looks for such a form at or above the line of a mistake, nearest first: the parser often stumbles behind it.
func onlyTBEL(lines []string, mistake int) (line, column int, mend string) {
	for line = min(mistake, len(lines)); line >= 1 && line > mistake-3; line-- {
		text := withoutTexts(lines[line-1])
		for _, f := range tbelForms {
			if at := f.form.FindStringIndex(text); at != nil {
				return line, at[0] + 1, f.mend
			}
		}
	}
	return 0, 0, ""
}

var texts = regexp.MustCompile(`'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|//.*`)

// withoutTexts blanks what stands in quotes, so that words in it are not taken for the script's.
func withoutTexts(line string) string {
	return texts.ReplaceAllStringFunc(line, func(s string) string {
		if len(s) < 2 || s[0] == '/' {
			return strings.Repeat(" ", len(s))
		}
		return s[:1] + strings.Repeat("_", len(s)-2) + s[len(s)-1:]
	})
}
