package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/routr-fabric/routr/services"
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

// composeMount matches a file of this tree that docker-compose.yml mounts, and where.
var composeMount = regexp.MustCompile(`\./(deploy/[^:"]+):([^:"]+):ro`)

// TestComposeResources puts together the folder of resources that docker-compose.yml makes for the processor: sample
// files that are mounted, and credentials that it holds itself, with passwords from the environment.
func TestComposeResources(t *testing.T) {
	text, err := os.ReadFile("../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, m := range composeMount.FindAllSubmatch(text, -1) {
		// Docker would make a folder in the place of a file that does not exist.
		mounted, err := os.ReadFile(filepath.Join("..", string(m[1])))
		if err != nil {
			t.Errorf("docker-compose.yml mounts a file: %v", err)
		}
		if name, ok := strings.CutPrefix(string(m[2]), "/etc/routr/resources/"); ok {
			write(t, filepath.Join(dir, name), "%s", mounted)
		}
	}
	_, credentials, ok := strings.Cut(string(text), "    content: |\n")
	if !ok {
		t.Fatal("docker-compose.yml holds no credentials")
	}
	credentials = strings.ReplaceAll(credentials, "\n      ", "\n")
	credentials = strings.TrimPrefix(credentials, "      ")
	credentials = regexp.MustCompile(`\$\{PASSWORD_(\d+):[^}]*\}`).ReplaceAllString(credentials, "password-$1")
	write(t, filepath.Join(dir, "credentials.yaml"), "%s", credentials)
	r, err := services.ReadResources(dir)
	if err != nil {
		t.Fatalf("ReadResources: %v", err)
	}
	for _, c := range r.Credentials {
		if got, want := c.Spec.Credentials.Password, "password-"+c.Spec.Credentials.Username; got != want {
			t.Errorf("the password of %s is %q, want %q", c.Ref, got, want)
		}
	}
	if len(r.Domains) != 1 || len(r.Agents) != 2 || len(r.Credentials) != 2 {
		t.Errorf("ReadResources = %d domains, %d agents, %d credentials, want 1, 2, 2", len(r.Domains), len(r.Agents), len(r.Credentials))
	}
}
