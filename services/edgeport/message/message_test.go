package message

import (
	"os"
	"testing"
)

func read(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func parse(t testing.TB, name string) *Message {
	t.Helper()
	m := new(Message)
	if err := m.Parse(read(t, name), DefaultLimits()); err != nil {
		t.Fatalf("Parse(%s) = %v, want nil", name, err)
	}
	return m
}
