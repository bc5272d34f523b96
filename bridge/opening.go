package bridge

import (
	"errors"
	"os"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// A packet must be accepted by every table. Docker and some firewalls leave the FORWARD or INPUT chain of the ip
// table "filter" with the policy "drop", so that our own table's "accept" is not enough. Into such chains go rules
// that accept what concerns our bridge; our own table has the last word on it all the same.

const (
	chainForward = "FORWARD"
	chainInput   = "INPUT"
	chainDocker  = "DOCKER-USER" // Docker calls it first in FORWARD, and never empties it
)

// openOthers puts our rules in, after taking out those of an earlier run.
func (n *Network) openOthers() error {
	if err := n.closeOthers(); err != nil {
		return err
	}
	c, err := nftables.New()
	if err != nil {
		return err
	}
	chains, err := filterChains(c)
	if err != nil {
		return err
	}
	if shut(chains[chainForward]) {
		in := chains[chainForward]
		if user := chains[chainDocker]; user != nil {
			in = user
		}
		n.insert(c, in, rule(accept(), outgoing(n.cfg.Name, true), counter()))
		n.insert(c, in, rule(accept(), incoming(n.cfg.Name), counter()))
	}
	if in := chains[chainInput]; shut(in) {
		n.insert(c, in, rule(accept(), incoming(n.cfg.Name), counter()))
	}
	return c.Flush()
}

// closeOthers takes our rules out again.
func (n *Network) closeOthers() error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	chains, err := filterChains(c)
	if err != nil {
		return err
	}
	for _, name := range []string{chainForward, chainInput, chainDocker} {
		chain := chains[name]
		if chain == nil {
			continue
		}
		rules, err := c.GetRules(chain.Table, chain)
		if err != nil {
			return err
		}
		for _, r := range rules {
			if text, ok := userdata.GetString(r.UserData, userdata.TypeComment); !ok || text != n.table().Name {
				continue
			}
			if err := c.DelRule(r); err != nil {
				return err
			}
		}
	}
	return c.Flush()
}

func (n *Network) insert(c *nftables.Conn, chain *nftables.Chain, exprs []expr.Any) {
	c.InsertRule(&nftables.Rule{Table: chain.Table, Chain: chain, Exprs: exprs, UserData: userdata.AppendString(nil, userdata.TypeComment, n.table().Name)})
}

// filterChains returns the chains of the ip table "filter", which is what iptables works on.
func filterChains(c *nftables.Conn) (map[string]*nftables.Chain, error) {
	all, err := c.ListChainsOfTableFamily(nftables.TableFamilyIPv4)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return nil, err
	}
	found := map[string]*nftables.Chain{}
	for _, chain := range all {
		if chain.Table.Name == "filter" {
			found[chain.Name] = chain
		}
	}
	return found, nil
}

// foreignDrops names the chains of other firewalls that drop what they do not know and that are not ours to change.
func (n *Network) foreignDrops() ([]string, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, err
	}
	all, err := c.ListChains()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, chain := range all {
		if !shut(chain) || chain.Table.Name == "filter" && chain.Table.Family == nftables.TableFamilyIPv4 {
			continue
		}
		passes := chain.Table.Family == nftables.TableFamilyIPv4 || chain.Table.Family == nftables.TableFamilyINet
		if h := chain.Hooknum; passes && (*h == *nftables.ChainHookForward || *h == *nftables.ChainHookInput) {
			names = append(names, chain.Table.Name+" "+chain.Name)
		}
	}
	if legacy, err := os.ReadFile("/proc/net/ip_tables_names"); err == nil && strings.Contains(string(legacy), "filter") {
		names = append(names, "iptables-legacy filter")
	}
	return names, nil
}

func shut(chain *nftables.Chain) bool {
	return chain != nil && chain.Hooknum != nil && chain.Policy != nil && *chain.Policy == nftables.ChainPolicyDrop
}

// counter makes the rule look like iptables' own, which shows packets and bytes.
func counter() []expr.Any { return []expr.Any{&expr.Counter{}} }
