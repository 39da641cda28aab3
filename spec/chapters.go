package spec

import (
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A Chapter is one Markdown file of the specification, taken apart.
type Chapter struct {
	File         string
	Number       int
	Title        string
	Outline      bool // nothing in it binds yet
	Requirements []Req
}

// The marker that ends a sentence which binds: its id and the letters of those
// whom it binds, as in "[TMCP-4.3-2 CS]".
var marker = regexp.MustCompile(`\[(TMCP-(\d+)\.(\d+)-(\d+)) ([CSGVH]+)(?: ([a-z-]+))?\]`)

// newMarker stands where a new sentence has no id yet: "[+ CS]".
var newMarker = regexp.MustCompile(`\[\+ ([CSGVH]+(?: [a-z-]+)?)\]`)

// keywords are those of BCP 14; longer ones first.
var keywords = regexp.MustCompile(`\b(MUST NOT|MUST|SHALL NOT|SHALL|SHOULD NOT|SHOULD|NOT RECOMMENDED|RECOMMENDED|REQUIRED|MAY|OPTIONAL)\b`)

var (
	chapterHead = regexp.MustCompile(`^# (\d+) (.+)$`)
	sectionHead = regexp.MustCompile(`^## (\d+)\.(\d+) (.+)$`)
	profileNote = regexp.MustCompile(`^<!-- profile: ([a-z0-9.-]+) -->$`)
	chapterFile = regexp.MustCompile(`^(\d\d)-[a-z-]+\.md$`)
	listItem    = regexp.MustCompile(`^\s*(?:[-*]|\d+\.) `)
	sentenceEnd = regexp.MustCompile(`[.!?:]\*{0,2} +`)
)

var roleNames = map[rune]string{'C': "client", 'S': "server", 'G': "gateway", 'V': "verifier", 'H': "host"}

// ChapterFiles lists the chapters of a folder, in order.
func ChapterFiles(fsys fs.FS) ([]string, error) {
	entries, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if chapterFile.MatchString(e.Name()) {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// Chapters reads the chapters of a folder; see [Files]. It returns every
// mistake that it finds: a sentence that binds and has no id, an id out of its
// section, an id that stands twice, a sentence of two levels.
func Chapters(fsys fs.FS) ([]Chapter, []error) {
	names, err := ChapterFiles(fsys)
	if err != nil {
		return nil, []error{err}
	}
	var chapters []Chapter
	var errs []error
	seen := map[string]string{}
	for i, name := range names {
		b, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, []error{err}
		}
		c, cerrs := parseChapter(name, string(b))
		errs = append(errs, cerrs...)
		if c.Number != i+1 {
			errs = append(errs, fmt.Errorf("%s: is chapter %d by its head, and the %dth file", name, c.Number, i+1))
		}
		for _, r := range c.Requirements {
			if at := seen[r.ID]; at != "" {
				errs = append(errs, fmt.Errorf("%s: id %s stands twice, first in %s; give the later sentence a new one by writing [+ …]", name, r.ID, at))
			}
			seen[r.ID] = r.Section
		}
		chapters = append(chapters, c)
	}
	return chapters, errs
}

func parseChapter(name, text string) (Chapter, []error) {
	c := Chapter{File: name}
	var errs []error
	bad := func(line int, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s:%d: %s", name, line, fmt.Sprintf(format, args...)))
	}
	if want := chapterFile.FindStringSubmatch(name); want == nil {
		bad(1, "the file name is not NN-name.md")
	}
	section, anchor, profile := 0, "", "identity"
	var block []string
	blockLine := 0
	flush := func() {
		if len(block) == 0 {
			return
		}
		reqs, berrs := parseBlock(strings.Join(block, " "))
		for _, e := range berrs {
			bad(blockLine, "%v", e)
		}
		for _, r := range reqs {
			m := marker.FindStringSubmatch("[" + r.ID + " C]")
			if m[2] != strconv.Itoa(c.Number) || m[3] != strconv.Itoa(section) {
				bad(blockLine, "id %s stands in section %d.%d; an id is never moved, so give this sentence a new one and retire the old", r.ID, c.Number, section)
			}
			if r.Profile == "" {
				r.Profile = profile
			}
			r.Section = name + anchor
			c.Requirements = append(c.Requirements, r)
		}
		block = nil
	}
	fenced := false
	for i, line := range strings.Split(text, "\n") {
		n := i + 1
		switch {
		case strings.HasPrefix(strings.TrimSpace(line), "```"):
			flush()
			fenced = !fenced
		case fenced:
		case chapterHead.MatchString(line):
			flush()
			m := chapterHead.FindStringSubmatch(line)
			c.Number, _ = strconv.Atoi(m[1])
			c.Title = m[2]
		case strings.HasPrefix(line, "## "):
			flush()
			m := sectionHead.FindStringSubmatch(line)
			if m == nil {
				bad(n, "a section's head has the form \"## %d.1 Title\"", c.Number)
				continue
			}
			if m[1] != strconv.Itoa(c.Number) || m[2] != strconv.Itoa(section+1) {
				bad(n, "section %s.%s follows %d.%d", m[1], m[2], c.Number, section)
			}
			section, _ = strconv.Atoi(m[2])
			anchor = "#" + anchorOf(strings.TrimPrefix(line, "## "))
		case profileNote.MatchString(line):
			flush()
			profile = profileNote.FindStringSubmatch(line)[1]
		case strings.HasPrefix(line, ">"): // quoted, or a note
			flush()
			if strings.Contains(line, "**Outline;") {
				c.Outline = true
			}
		case strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, "<!--"):
			flush()
		default:
			if listItem.MatchString(line) || strings.HasPrefix(strings.TrimSpace(line), "|") {
				flush()
			}
			if len(block) == 0 {
				blockLine = n
			}
			block = append(block, strings.TrimSpace(listItem.ReplaceAllString(line, "")))
		}
	}
	flush()
	if fenced {
		bad(1, "a code block is not closed")
	}
	if c.Number == 0 {
		bad(1, "the first line is not \"# N Title\"")
	}
	if c.Outline && len(c.Requirements) > 0 {
		bad(1, "an outline chapter holds requirements")
	}
	return c, errs
}

// parseBlock finds the requirements of one paragraph or list item. Each
// sentence with a keyword must be followed by a marker, and each marker must
// follow such a sentence.
func parseBlock(text string) ([]Req, []error) {
	if newMarker.MatchString(text) {
		return nil, []error{fmt.Errorf("a sentence is marked [+ …]: run go generate ./spec to give it an id")}
	}
	var reqs []Req
	var errs []error
	rest := text
	for {
		loc := marker.FindStringSubmatchIndex(rest)
		before := rest
		if loc != nil {
			before = rest[:loc[0]]
		}
		sentences := splitSentences(before)
		last := len(sentences)
		if loc != nil { // the marker is that of the last sentence with a keyword
			for last--; last > 0 && !keywords.MatchString(sentences[last]); last-- {
			}
		}
		for _, s := range sentences[:max(last, 0)] {
			if k := keywords.FindString(s); k != "" {
				errs = append(errs, fmt.Errorf("a sentence says %s and has no id: %.100q; end it with [+ …] and run go generate ./spec", k, s))
			}
		}
		if loc == nil {
			return reqs, errs
		}
		m := marker.FindStringSubmatch(rest)
		rest = rest[loc[1]:]
		if last < 0 {
			errs = append(errs, fmt.Errorf("%s ends no sentence", m[1]))
			continue
		}
		r, err := newReq(m, sentences)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		reqs = append(reqs, r)
	}
}

func newReq(m, sentences []string) (Req, error) {
	r := Req{ID: m[1], Profile: m[6]}
	for _, letter := range m[5] {
		if slices.Contains(r.Roles, roleNames[letter]) {
			return r, fmt.Errorf("%s: role %c stands twice", r.ID, letter)
		}
		r.Roles = append(r.Roles, roleNames[letter])
	}
	// The sentence is the last one with a keyword; a reason may follow it
	// before the marker ("*Why*: …").
	i := len(sentences) - 1
	for i > 0 && !keywords.MatchString(sentences[i]) {
		i--
	}
	r.Text = sentences[i]
	found := keywords.FindAllString(r.Text, -1)
	if len(found) == 0 {
		return r, fmt.Errorf("%s: its sentence has no BCP 14 keyword: %.100q", r.ID, r.Text)
	}
	for _, k := range found {
		if k != found[0] {
			return r, fmt.Errorf("%s: its sentence says both %s and %s; make two of it", r.ID, found[0], k)
		}
	}
	r.Level = found[0]
	return r, nil
}

func splitSentences(s string) []string {
	var out []string
	for {
		s = strings.TrimSpace(s)
		if s == "" {
			return out
		}
		end := -1
		for _, loc := range sentenceEnd.FindAllStringIndex(s, -1) {
			next := s[loc[1]:]
			// A colon goes on with its sentence unless what stands before
			// it is whole ("*Why*:" and "Rules for receivers:" are not).
			if strings.HasPrefix(s[loc[0]:], ":") || next == "" {
				continue
			}
			if c := next[0]; c >= 'A' && c <= 'Z' || c == '*' || c == '`' || c == '[' {
				end = loc[1]
				break
			}
		}
		if end < 0 {
			return append(out, s)
		}
		out = append(out, strings.TrimSpace(s[:end]))
		s = s[end:]
	}
}

var notAnchor = regexp.MustCompile("[^a-z0-9 _-]")

// anchorOf is the anchor that Markdown renderers give a heading.
func anchorOf(heading string) string {
	return strings.ReplaceAll(notAnchor.ReplaceAllString(strings.ToLower(heading), ""), " ", "-")
}

// AssignIDs gives every sentence marked [+ …] the next free id of its section.
// taken are ids that must not be used: retired ones.
func AssignIDs(text string, taken []string) string {
	next := map[string]int{}
	use := func(id string) {
		m := marker.FindStringSubmatch("[" + id + " C]")
		if m == nil {
			return
		}
		n, _ := strconv.Atoi(m[4])
		key := m[2] + "." + m[3]
		next[key] = max(next[key], n)
	}
	for _, id := range taken {
		use(id)
	}
	for _, m := range marker.FindAllStringSubmatch(text, -1) {
		use(m[1])
	}
	key := ""
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if m := sectionHead.FindStringSubmatch(line); m != nil {
			key = m[1] + "." + m[2]
		}
		lines[i] = newMarker.ReplaceAllStringFunc(line, func(s string) string {
			next[key]++
			return "[TMCP-" + key + "-" + strconv.Itoa(next[key]) + strings.TrimPrefix(s, "[+")
		})
	}
	return strings.Join(lines, "\n")
}
