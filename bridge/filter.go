package bridge

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Closed returns the networks that containers cannot reach unless Config.Allow opens them. The documentation ranges
// of RFC 5737 are not among them: package mirrors live there on some machines.
func Closed() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/8"),
		netip.MustParsePrefix("10.0.0.0/8"),
		netip.MustParsePrefix("100.64.0.0/10"), // carrier-grade NAT, overlay networks; a metadata service too
		netip.MustParsePrefix("127.0.0.0/8"),
		netip.MustParsePrefix("168.63.129.16/32"), // a cloud's host agent: it hands out credentials
		netip.MustParsePrefix("169.254.0.0/16"),   // link-local: metadata services
		netip.MustParsePrefix("172.16.0.0/12"),
		netip.MustParsePrefix("192.0.0.0/24"), // protocol assignments; a metadata service too
		netip.MustParsePrefix("192.168.0.0/16"),
		netip.MustParsePrefix("198.18.0.0/15"), // benchmarks
		netip.MustParsePrefix("224.0.0.0/4"),   // multicast
		netip.MustParsePrefix("240.0.0.0/4"),   // reserved, broadcast
	}
}

func (n *Network) table() *nftables.Table {
	return &nftables.Table{Name: "bindery-" + n.cfg.Name, Family: nftables.TableFamilyINet}
}

// installFilter replaces the whole table in one transaction: no packet ever sees half of it.
func (n *Network) installFilter() error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	t := n.table()
	c.AddTable(t) // so that deleting it cannot fail
	c.DelTable(t)
	c.AddTable(t)
	pass := nftables.ChainPolicyAccept
	input := c.AddChain(&nftables.Chain{Table: t, Name: "input", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter, Policy: &pass})
	forward := c.AddChain(&nftables.Chain{Table: t, Name: "forward", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter, Policy: &pass})
	nat := c.AddChain(&nftables.Chain{Table: t, Name: "postrouting", Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource, Policy: &pass})
	for _, r := range n.inputRules() {
		c.AddRule(&nftables.Rule{Table: t, Chain: input, Exprs: r})
	}
	for _, r := range n.forwardRules() {
		c.AddRule(&nftables.Rule{Table: t, Chain: forward, Exprs: r})
	}
	c.AddRule(&nftables.Rule{Table: t, Chain: nat, Exprs: rule(&expr.Masq{}, isIPv4(), source(n.cfg.Subnet, true), outgoing(n.cfg.Name, false))})
	return c.Flush()
}

// inputRules let containers ask the gateway for names, and nothing else of this machine.
func (n *Network) inputRules() [][]expr.Any {
	from, gateway := incoming(n.cfg.Name), netip.PrefixFrom(n.gateway, 32)
	return [][]expr.Any{
		rule(accept(), from, established()),
		rule(drop(), from, isIPv6()),
		rule(drop(), from, isIPv4(), source(n.cfg.Subnet, false)),
		rule(accept(), from, isIPv4(), destination(gateway), port(unix.IPPROTO_UDP, 53)),
		rule(accept(), from, isIPv4(), destination(gateway), port(unix.IPPROTO_TCP, 53)),
		rule(drop(), from),
	}
}

// forwardRules say what containers reach beyond this machine, and that nothing beyond it reaches them. Traffic from
// container to container would come back through the gateway past the isolated ports, so it is dropped here first.
func (n *Network) forwardRules() [][]expr.Any {
	from, to := incoming(n.cfg.Name), outgoing(n.cfg.Name, true)
	rules := [][]expr.Any{
		rule(drop(), from, to),
		rule(accept(), from, established()),
		rule(accept(), to, established()),
		rule(drop(), to),
		rule(drop(), from, isIPv6()),
		rule(drop(), from, isIPv4(), source(n.cfg.Subnet, false)),
		rule(drop(), from, isIPv4(), destination(n.cfg.Subnet)),
	}
	for _, p := range n.cfg.Allow {
		if p.Addr().Is4() {
			rules = append(rules, rule(accept(), from, isIPv4(), destination(p.Masked())))
		}
	}
	for _, p := range Closed() {
		rules = append(rules, rule(drop(), from, isIPv4(), destination(p)))
	}
	return rules
}

func (n *Network) removeFilter() error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	c.AddTable(n.table())
	c.DelTable(n.table())
	return c.Flush()
}

// rule is the conditions in order, then the verdict.
func rule(verdict expr.Any, conditions ...[]expr.Any) []expr.Any {
	return append(slices.Concat(conditions...), verdict)
}

func accept() expr.Any { return &expr.Verdict{Kind: expr.VerdictAccept} }
func drop() expr.Any   { return &expr.Verdict{Kind: expr.VerdictDrop} }

func incoming(name string) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte(name + "\x00")},
	}
}

func outgoing(name string, is bool) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
		&expr.Cmp{Op: equal(is), Register: 1, Data: []byte(name + "\x00")},
	}
}

func isIPv4() []expr.Any { return family(unix.NFPROTO_IPV4) }
func isIPv6() []expr.Any { return family(unix.NFPROTO_IPV6) }

func family(f byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{f}},
	}
}

// established also admits what belongs to a known connection, such as "fragmentation needed".
func established() []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

func source(p netip.Prefix, is bool) []expr.Any { return within(12, p, is) }
func destination(p netip.Prefix) []expr.Any     { return within(16, p, true) }

// within compares the address at offset of the IPv4 header.
func within(offset uint32, p netip.Prefix, is bool) []expr.Any {
	mask := ^uint32(0) << (32 - p.Bits())
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.BigEndian.PutUint32(mask), Xor: make([]byte, 4)},
		&expr.Cmp{Op: equal(is), Register: 1, Data: p.Masked().Addr().AsSlice()},
	}
}

func port(protocol byte, number uint16) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{protocol}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(number)},
	}
}

func equal(is bool) expr.CmpOp {
	if is {
		return expr.CmpOpEq
	}
	return expr.CmpOpNeq
}

// writeSysctl sets a kernel setting of the calling thread's network namespace, unless it has that value.
func writeSysctl(name, value string) error {
	path := "/proc/sys/" + name
	if have, err := os.ReadFile(path); err == nil && string(have) == value+"\n" {
		return nil
	}
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return fmt.Errorf("set %s: %w", name, err)
	}
	return nil
}
