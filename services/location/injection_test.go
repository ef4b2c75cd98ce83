package location

import "testing"

// A25: an address-of-record with any byte in it has one key, which is a key, and no other one has that.
func TestA25KeyOfEveryByte(t *testing.T) {
	keys := make(map[string]string)
	for c := range 256 {
		for _, user := range []string{string([]byte{byte(c)}), "a" + string([]byte{byte(c)}), string([]byte{byte(c)}) + ".>", "';DROP" + string([]byte{byte(c)}) + "*"} {
			aor := "sip:" + user + "@example.com"
			key := keyOf(aor)
			if back, ok := aorOf(key); !isKey(key) || !ok || back != aor {
				t.Errorf("keyOf(%q) = %q, which reads back as %q, %v", aor, key, back, ok)
			}
			if other, ok := keys[key]; ok && other != aor {
				t.Errorf("keyOf(%q) = keyOf(%q)", aor, other)
			}
			keys[key] = aor
		}
	}
}
