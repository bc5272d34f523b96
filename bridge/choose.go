package bridge

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"

	bindery "github.com/bindery-hub/bindery"
)

// pool is what default subnets are taken from: 1,024 networks of 4,096 addresses.
const (
	poolStart  = "10.64.0.0"
	poolBits   = 10 // of its /10
	subnetBits = 20
)

// A choice is what net/network.json keeps.
type choice struct {
	Name   string       `json:"name"`
	Subnet netip.Prefix `json:"subnet"`
}

// Choose returns the bridge name and the subnet of a state directory: those in its net/network.json, or new ones, which
// are then kept there. The name follows from the directory's path. The subnet does so too, unless a route of this
// machine overlaps it.
func Choose(ctx context.Context, stateDir string) (name string, subnet netip.Prefix, err error) {
	dir, err := filepath.Abs(stateDir)
	if err != nil {
		return "", netip.Prefix{}, err
	}
	lock, err := lockFile(ctx, filepath.Join(dir, "net", "lock"))
	if err != nil {
		return "", netip.Prefix{}, err
	}
	defer lock.Close()
	path := filepath.Join(dir, "net", "network.json")
	var c choice
	text, err := os.ReadFile(path)
	if err == nil {
		if err := json.Unmarshal(text, &c); err != nil || c.Name == "" || !c.Subnet.IsValid() {
			return "", netip.Prefix{}, bindery.Errorf(bindery.ErrInvalid, bindery.Ours, "Stop bindery, remove that file, start again.", "%s does not describe a network", path).Because(err)
		}
		return c.Name, c.Subnet, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", netip.Prefix{}, err
	}
	taken, err := routed()
	if err != nil {
		return "", netip.Prefix{}, noNetwork("routes", err)
	}
	sum := sha256.Sum256([]byte(dir))
	c.Name = "bnd" + hex.EncodeToString(sum[:3])
	if c.Subnet, err = free(binary.BigEndian.Uint32(sum[:4]), taken); err != nil {
		return "", netip.Prefix{}, err
	}
	if text, err = json.Marshal(c); err != nil {
		return "", netip.Prefix{}, err
	}
	if err := os.WriteFile(path+".new", append(text, '\n'), 0o600); err != nil {
		return "", netip.Prefix{}, fmt.Errorf("keep the network's choice: %w", err)
	}
	return c.Name, c.Subnet, os.Rename(path+".new", path)
}

// free returns the first subnet from start on, wrapping round, that overlaps none of taken.
func free(start uint32, taken []netip.Prefix) (netip.Prefix, error) {
	const count = 1 << (subnetBits - poolBits)
	base := number(netip.MustParseAddr(poolStart))
	for i := range uint32(count) {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], base+(start+i)%count<<(32-subnetBits))
		p := netip.PrefixFrom(netip.AddrFrom4(b), subnetBits)
		if !overlapsAny(p, taken) {
			return p, nil
		}
	}
	return netip.Prefix{}, bindery.Errorf(bindery.ErrNotReady, bindery.Ours, "Name a free network with --subnet.", "Routes of this machine cover all of %s/%d", poolStart, poolBits)
}

func overlapsAny(p netip.Prefix, taken []netip.Prefix) bool {
	for _, t := range taken {
		if p.Overlaps(t) {
			return true
		}
	}
	return false
}

// routed lists the destinations of this machine's routes, the default route apart.
func routed() ([]netip.Prefix, error) {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, err
	}
	var taken []netip.Prefix
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		addr, ok := netip.AddrFromSlice(r.Dst.IP.To4())
		ones, _ := r.Dst.Mask.Size()
		if ok && ones > 0 {
			taken = append(taken, netip.PrefixFrom(addr, ones))
		}
	}
	return taken, nil
}
