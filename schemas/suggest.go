package schemas

import "strings"

// oneOf ends a sentence about a word that is not among known: `; did you mean "transport"?`, or, if nothing is near,
// `, want one of "a", "b", "c"`.
func oneOf(word string, known []string) string {
	if near := nearest(word, known); near != "" {
		return "; did you mean " + quote(near) + "?"
	}
	if len(known) == 0 {
		return ""
	}
	values := make([]any, len(known))
	for i, k := range known {
		values[i] = k
	}
	return ", want " + list(values)
}

// nearest is the word of known that word was probably meant to be: at most a third of its letters differ, and no more
// than three. Empty if there is none.
func nearest(word string, known []string) string {
	if len(word) > 64 {
		return ""
	}
	best, at := "", min(3, max(1, len(word)/3))+1
	for _, k := range known {
		if d := distance(strings.ToLower(word), strings.ToLower(k)); d < at {
			best, at = k, d
		}
	}
	return best
}

// distance is how many letters must be added, removed, replaced or swapped with the next one to make b of a.
func distance(a, b string) int {
	older, old, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range old {
		old[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(old[j]+1, row[j-1]+1, old[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], older[j-2]+1)
			}
		}
		older, old, row = old, row, older
	}
	return old[len(b)]
}
