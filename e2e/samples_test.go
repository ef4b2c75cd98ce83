package e2e_test

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// TestCompose checks the configuration files that docker-compose.yml mounts and no package of the server knows.
func TestCompose(t *testing.T) {
	files, err := filepath.Glob("../deploy/compose/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("deploy/compose holds no files: %v", err)
	}
	if out, err := exec.Command(binary, append([]string{"check"}, files...)...).CombinedOutput(); err != nil {
		t.Errorf("routr check: %v\n%s", err, out)
	}
}
