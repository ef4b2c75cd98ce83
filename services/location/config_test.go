package location

import "testing"

func TestValidate(t *testing.T) {
	tests := []struct {
		name string
		edit func(*Config)
		want string
	}{
		{"default", func(*Config) {}, ""},
		{"as Routr v2 writes it", func(c *Config) { c.Spec.Cache.Provider = "Memory" }, ""},
		{"nats", func(c *Config) { c.Spec.Cache = Cache{Provider: "nats"} }, ""},
		{"nats with parameters", func(c *Config) { c.Spec.Cache = Cache{"nats", "storage=memory, replicas=3"} }, ""},
		{"redis", func(c *Config) { c.Spec.Cache.Provider = "redis" },
			"spec.cache.provider: redis is not built yet; use nats, which several instances share as well, or memory for a single instance"},
		{"unknown provider", func(c *Config) { c.Spec.Cache.Provider = "mongo" }, `spec.cache.provider: "mongo" is not known, want memory or nats`},
		{"memory with parameters", func(c *Config) { c.Spec.Cache.Parameters = "a=b" }, `spec.cache.parameters: the memory provider has none, remove "a=b"`},
		{"unknown parameter", func(c *Config) { c.Spec.Cache = Cache{"nats", "host=x"} },
			`spec.cache.parameters: "host=x" is not known, want storage=file or storage=memory, or replicas=1 to 5`},
		{"storage", func(c *Config) { c.Spec.Cache = Cache{"nats", "storage=tape"} }, `spec.cache.parameters: storage is "tape", want file or memory`},
		{"replicas", func(c *Config) { c.Spec.Cache = Cache{"nats", "replicas=6"} }, `spec.cache.parameters: replicas is "6", want 1 to 5`},
		{"no port", func(c *Config) { c.Spec.BindAddr = "0.0.0.0" }, `spec.bindAddr: "0.0.0.0" is no address and port, want one such as 0.0.0.0:51902`},
		{"bad port", func(c *Config) { c.Spec.BindAddr = "0.0.0.0:99999" }, `spec.bindAddr: "0.0.0.0:99999" has the port "99999", want 0 to 65535`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := Default()
			tt.edit(&c)
			var got string
			if err := c.Validate(); err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("Validate() = %q, want %q", got, tt.want)
			}
		})
	}
}
