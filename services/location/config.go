package location

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// Config is the configuration of a Location Service, as its file has it.
type Config struct {
	// Version of the layout of this file.
	APIVersion string `json:"apiVersion" jsonschema:"required,enum=v2beta1,enum=v2"`
	// Kind of the file.
	Kind string `json:"kind" jsonschema:"required,enum=Location,enum=location"`
	// Name of this instance, for logs.
	Ref string `json:"ref,omitempty"`
	// Data about the instance that routing does not use.
	//
	// The specification says REQUIRED, but every field in it is optional, and files that are in use leave it out.
	Metadata Metadata `json:"metadata,omitzero"`
	// What the Location Service does.
	Spec Spec `json:"spec,omitzero"`
}

// Metadata is data about an instance of the Location Service.
type Metadata struct {
	// Region where the instance operates.
	Region string `json:"region,omitempty"`
}

// Spec is what a Location Service does.
type Spec struct {
	// Address and port where the gateway takes gRPC requests for the Location Service.
	BindAddr string `json:"bindAddr,omitempty" jsonschema:"default=0.0.0.0:51902"`
	// Where the bindings are kept.
	Cache Cache `json:"cache,omitzero"`
}

// Cache is where the bindings are kept.
type Cache struct {
	// Keeper of the bindings: memory, for a single instance, whose bindings end with it; nats, a JetStream key-value
	// bucket that any number of instances share; redis.
	Provider string `json:"provider" jsonschema:"required,enum=memory,enum=nats,enum=redis,enum=Memory,enum=Redis"`
	// Comma-separated key=value pairs for the provider. nats: storage=file or storage=memory, replicas=1 to 5; they
	// apply when the bucket is made. memory has none.
	Parameters string `json:"parameters,omitempty" jsonschema:"example=storage=file\\,replicas=3"`
}

// The providers that are built.
const (
	ProviderMemory = "memory"
	ProviderNATS   = "nats"
)

// Default is the configuration of a single instance that keeps its bindings in memory.
func Default() Config {
	return Config{
		APIVersion: "v2beta1",
		Kind:       "Location",
		Ref:        "location",
		Spec:       Spec{BindAddr: "0.0.0.0:51902", Cache: Cache{Provider: ProviderMemory}},
	}
}

// Validate reports everything that is wrong with c, each error beginning with the path of the field.
func (c Config) Validate() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	if b := c.Spec.BindAddr; b != "" {
		if _, port, err := net.SplitHostPort(b); err != nil {
			wrong("spec.bindAddr: %q is no address and port, want one such as 0.0.0.0:51902", b)
		} else if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			wrong("spec.bindAddr: %q has the port %q, want 0 to 65535", b, port)
		}
	}
	switch cache := c.Spec.Cache; cache.provider() {
	case ProviderMemory:
		if cache.Parameters != "" {
			wrong("spec.cache.parameters: the memory provider has none, remove %q", cache.Parameters)
		}
	case ProviderNATS:
		if _, err := cache.bucket(); err != nil {
			wrong("spec.cache.parameters: %w", err)
		}
	case "redis":
		wrong("spec.cache.provider: redis is not built yet; use nats, which several instances share as well, " +
			"or memory for a single instance")
	default:
		wrong("spec.cache.provider: %q is not known, want memory or nats", cache.Provider)
	}
	return errors.Join(errs...)
}

// provider is c.Provider in lower case, as files of Routr v2 write Memory and Redis too.
func (c Cache) provider() string { return strings.ToLower(c.Provider) }

// bucketConfig is how the bucket of the bindings is made.
type bucketConfig struct {
	inMemory bool
	replicas int
}

// bucket reads the parameters of the nats provider.
func (c Cache) bucket() (bucketConfig, error) {
	b := bucketConfig{replicas: 1}
	if c.Parameters == "" {
		return b, nil
	}
	for pair := range strings.SplitSeq(c.Parameters, ",") {
		key, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
		switch key {
		case "storage":
			if value != "file" && value != "memory" {
				return b, fmt.Errorf("storage is %q, want file or memory", value)
			}
			b.inMemory = value == "memory"
		case "replicas":
			n, err := strconv.Atoi(value)
			if err != nil || n < 1 || n > 5 {
				return b, fmt.Errorf("replicas is %q, want 1 to 5", value)
			}
			b.replicas = n
		default:
			return b, fmt.Errorf("%q is not known, want storage=file or storage=memory, or replicas=1 to 5", pair)
		}
	}
	return b, nil
}
