package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"go.yaml.in/yaml/v3"

	bindery "github.com/bindery-hub/bindery"
)

// pools is a file of node pools: what machines there are to be, and what each must have before it gets builds.
type pools struct {
	Cluster clusterConfig         `yaml:"cluster"`
	Pools   map[string]poolConfig `yaml:"pools"`
}

// A clusterConfig says where the machines are. Each provider reads what it needs of it.
type clusterConfig struct {
	Name          string `yaml:"name"`
	Project       string `yaml:"project"`        // GKE
	Location      string `yaml:"location"`       // GKE: zone or region; EKS: region
	ResourceGroup string `yaml:"resource_group"` // AKS
	Server        string `yaml:"server"`         // k3s
}

type poolConfig struct {
	Purpose     string            `yaml:"purpose"`
	MachineType string            `yaml:"machine_type"`
	Count       countConfig       `yaml:"count"`
	LocalDisks  int               `yaml:"local_disks"`
	BootDisk    size              `yaml:"boot_disk"`
	Labels      map[string]string `yaml:"labels"`
	Taints      []string          `yaml:"taints"`
	Minimums    minimumConfig     `yaml:"minimums"`
}

type countConfig struct {
	Min int `yaml:"min"`
	Max int `yaml:"max"`
}

type minimumConfig struct {
	Free      size          `yaml:"free"`
	Inodes    int64         `yaml:"inodes"`
	WriteRate size          `yaml:"write_rate"`
	Memory    size          `yaml:"memory"`
	CPUs      int           `yaml:"cpus"`
	Clock     time.Duration `yaml:"clock"`
	Network   bool          `yaml:"network"`
}

// minimums are what the hub holds a pool's workers to: never less than what no build can do without.
func (p poolConfig) minimums() bindery.Minimums {
	m, least := p.Minimums, bindery.DefaultMinimums()
	out := bindery.Minimums{
		Free: max(int64(m.Free), least.Free), Inodes: max(m.Inodes, least.Inodes), WriteRate: int64(m.WriteRate), Memory: int64(m.Memory),
		CPUs: m.CPUs, Clock: least.Clock, LocalDisk: p.LocalDisks > 0, Network: m.Network,
	}
	if m.Clock > 0 {
		out.Clock = m.Clock
	}
	return out
}

// readPools reads and checks a file of pools.
func readPools(path string) (pools, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return pools{}, bindery.Errorf(bindery.ErrInvalid, bindery.User, "Name one that can be read: with --file, or as pools in the configuration file.", "The file of node pools cannot be read").Because(err)
	}
	return parsePools(path, text)
}

func parsePools(path string, text []byte) (p pools, err error) {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err = dec.Decode(&p); err == nil {
		if dec.Decode(new(yaml.Node)) == nil {
			err = errors.New("more than one document")
		} else {
			err = p.check()
		}
	}
	if err != nil {
		return pools{}, bindery.Errorf(bindery.ErrInvalid, bindery.User, "docs/workers.md lists the keys and their values.", "%s: %s", path, plainYAML(err))
	}
	return p, nil
}

// names are the pools, in order.
func (p pools) names() []string { return slices.Sorted(maps.Keys(p.Pools)) }

func (p pools) check() error {
	if len(p.Pools) == 0 {
		return errors.New("it declares no pools")
	}
	c := p.Cluster
	for key, value := range map[string]string{"name": c.Name, "project": c.Project, "location": c.Location, "resource_group": c.ResourceGroup} {
		if value != "" && !plainWordRE.MatchString(value) {
			return fmt.Errorf("cluster.%s: %q is not a name", key, bindery.Printable(value))
		}
	}
	if err := checkURL(c.Server); err != nil {
		return fmt.Errorf("cluster.server: %w", err)
	}
	for _, name := range p.names() {
		if err := p.Pools[name].check(name); err != nil {
			return fmt.Errorf("pools.%s: %w", bindery.Printable(name), err)
		}
	}
	return nil
}

// Names as Kubernetes and the providers have them. None begins with a hyphen, so that none is taken for an option.
var (
	plainWordRE  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,89}$`)
	poolNameRE   = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$`)
	labelNameRE  = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$`)
	labelDomRE   = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)
	labelValueRE = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$`)
)

func (p poolConfig) check(name string) error {
	switch {
	case !poolNameRE.MatchString(name):
		return errors.New("the name is not one of a node pool: up to 40 small letters, digits and hyphens, a letter first")
	case p.MachineType == "":
		return errors.New("machine_type is missing")
	case !plainWordRE.MatchString(p.MachineType):
		return fmt.Errorf("machine_type: %q is not a type of machine", bindery.Printable(p.MachineType))
	case p.Purpose != "" && !labelValueRE.MatchString(p.Purpose):
		return fmt.Errorf("purpose: %q is not one word", bindery.Printable(p.Purpose))
	case p.Count.Min < 0 || p.Count.Max < max(p.Count.Min, 1) || p.Count.Max > 1000:
		return fmt.Errorf("count: from %d to %d is no range of machines", p.Count.Min, p.Count.Max)
	case p.LocalDisks < 0 || p.LocalDisks > 24:
		return fmt.Errorf("local_disks: %d is not how many disks a machine has", p.LocalDisks)
	case p.BootDisk != 0 && p.BootDisk < 10<<30:
		return fmt.Errorf("boot_disk: %s is too small to start from", p.BootDisk)
	case p.Minimums.Inodes < 0 || p.Minimums.CPUs < 0 || p.Minimums.Clock < 0:
		return errors.New("minimums are not negative")
	}
	for key, value := range p.Labels {
		if err := checkLabel(key, value); err != nil {
			return fmt.Errorf("labels: %w", err)
		}
	}
	for _, t := range p.Taints {
		if _, err := parseTaint(t); err != nil {
			return fmt.Errorf("taints: %w", err)
		}
	}
	return nil
}

func checkLabel(key, value string) error {
	domain, name, slash := strings.Cut(key, "/")
	if !slash {
		domain, name = "x", key
	}
	if !labelDomRE.MatchString(domain) || !labelNameRE.MatchString(name) {
		return fmt.Errorf("%q is not the key of a label", bindery.Printable(key))
	}
	if !labelValueRE.MatchString(value) {
		return fmt.Errorf("%q is not the value of a label", bindery.Printable(value))
	}
	return nil
}

// A taint keeps what does not tolerate it off a node.
type taint struct{ key, value, effect string }

func parseTaint(text string) (t taint, err error) {
	rest, effect, _ := strings.Cut(text, ":")
	t.key, t.value, _ = strings.Cut(rest, "=")
	t.effect = effect
	if !slices.Contains([]string{"NoSchedule", "PreferNoSchedule", "NoExecute"}, effect) || checkLabel(t.key, t.value) != nil {
		return t, fmt.Errorf("%q is not a taint such as bindery.dev/build=true:NoSchedule", bindery.Printable(text))
	}
	return t, nil
}

// A poolFile keeps the minimums of a file of pools up to date. A file that cannot be read changes nothing.
type poolFile struct {
	path string
	log  *slog.Logger
	tell func(file string, declared pools, wrong error) // of what counts when it runs, and of each change; nil: nobody

	mu   sync.Mutex
	now  pools
	seen time.Time // the file's
	said string
}

func newPoolFile(path string, log *slog.Logger) *poolFile {
	f := &poolFile{path: path, log: log}
	f.read()
	return f
}

// minimums are what a pool wants of its workers; of one that is not declared, what all must have.
func (f *poolFile) minimums(pool string) bindery.Minimums {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p, ok := f.now.Pools[pool]; ok {
		return p.minimums()
	}
	return bindery.DefaultMinimums()
}

const poolFileEvery = 5 * time.Second

// run reads the file again when it has changed, until ctx ends.
func (f *poolFile) run(ctx context.Context) error {
	if f.path != "" && f.tell != nil && !f.seen.IsZero() {
		f.tell(f.path, f.now, nil)
	}
	tick := time.NewTicker(poolFileEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if changed, err := f.read(); f.tell != nil && (changed || err != nil) {
				f.tell(f.path, f.now, err)
			}
		}
	}
}

// read reads the file if it has changed. An error is returned once.
func (f *poolFile) read() (changed bool, wrong error) {
	if f.path == "" {
		return false, nil
	}
	info, err := os.Stat(f.path)
	if err == nil && info.ModTime().Equal(f.seen) {
		return false, nil
	}
	var fresh pools
	if err == nil {
		fresh, err = readPools(f.path)
	}
	if err != nil {
		if text := err.Error(); text != f.said && !errors.Is(err, fs.ErrNotExist) || f.said == "" {
			f.said = text
			f.log.Error("the file of node pools is not used; what it said before goes on", "err", err)
			return false, err
		}
		return false, nil
	}
	f.said = ""
	f.mu.Lock()
	f.now, f.seen = fresh, info.ModTime()
	f.mu.Unlock()
	f.log.Info("node pools", "file", f.path, "pools", fresh.names())
	return true, nil
}
