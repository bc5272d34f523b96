package main

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	bindery "github.com/bindery-hub/bindery"
)

// Labels that every node of a pool has beside its own: what the pool is, and what it is for.
const (
	poolLabel    = "bindery.dev/pool"
	purposeLabel = "bindery.dev/purpose"
)

// providers are those that a command can be printed for.
func poolProviders() []string { return []string{"gke", "eks", "aks", "k3s"} }

// poolCommand is the command that makes a pool at a provider, to be copied into a shell.
func poolCommand(c clusterConfig, name string, p poolConfig, provider string) (string, error) {
	need := func(key, value string) error {
		if value != "" {
			return nil
		}
		return bindery.Errorf(bindery.ErrInvalid, bindery.User, "Add it to the file of node pools.", "A command for %s needs cluster.%s", provider, key)
	}
	var err error
	switch provider {
	case "gke":
		err = cmp.Or(need("name", c.Name), need("project", c.Project), need("location", c.Location))
	case "eks":
		err = cmp.Or(need("name", c.Name), need("location", c.Location))
	case "aks":
		err = cmp.Or(need("name", c.Name), need("resource_group", c.ResourceGroup))
		if err == nil && !aksNameRE.MatchString(name) {
			err = bindery.Errorf(bindery.ErrInvalid, bindery.User, "Rename the pool.", "AKS has no node pool called %q: it wants up to 12 small letters and digits, a letter first", name)
		}
	case "k3s":
		err = need("server", c.Server)
	default:
		err = usagef("--for is one of %s", strings.Join(poolProviders(), ", "))
	}
	if err != nil {
		return "", err
	}
	return map[string]func(clusterConfig, string, poolConfig) string{"gke": gke, "eks": eks, "aks": aks, "k3s": k3s}[provider](c, name, p), nil
}

var aksNameRE = regexp.MustCompile(`^[a-z][a-z0-9]{0,11}$`)

// nodeLabels are a pool's own labels and those that every pool's nodes have.
func (p poolConfig) nodeLabels(name string) map[string]string {
	all := map[string]string{poolLabel: name}
	if p.Purpose != "" {
		all[purposeLabel] = p.Purpose
	}
	maps.Copy(all, p.Labels)
	return all
}

// allLabels are these as KEY=VALUE in order.
func (p poolConfig) allLabels(name string) []string {
	var out []string
	all := p.nodeLabels(name)
	for _, k := range slices.Sorted(maps.Keys(all)) {
		out = append(out, k+"="+all[k])
	}
	return out
}

// allTaints are a pool's taints as KEY=VALUE:EFFECT, which all providers take.
func (p poolConfig) allTaints() (out []string) {
	for _, text := range p.Taints {
		t, _ := parseTaint(text) // it was checked
		out = append(out, t.key+"="+t.value+":"+t.effect)
	}
	return out
}

// gibibytes rounds up.
func gibibytes(n size) string { return strconv.FormatInt((int64(n)+1<<30-1)>>30, 10) }

// gke uses ephemeral storage on local SSDs: a worker's emptyDir is then on them.
func gke(c clusterConfig, name string, p poolConfig) string {
	words := []string{"gcloud container node-pools create " + quote(name),
		"--project=" + c.Project, "--cluster=" + c.Name, "--location=" + c.Location, "--machine-type=" + p.MachineType,
		"--num-nodes=" + itoa(p.Count.Min), fmt.Sprintf("--enable-autoscaling --min-nodes=%d --max-nodes=%d", p.Count.Min, p.Count.Max),
		"--enable-autorepair",
	}
	if p.BootDisk > 0 {
		words = append(words, "--disk-type=pd-ssd", "--disk-size="+gibibytes(p.BootDisk))
	}
	if p.LocalDisks > 0 {
		words = append(words, "--ephemeral-storage-local-ssd=count="+itoa(p.LocalDisks))
	}
	words = append(words, "--node-labels="+strings.Join(p.allLabels(name), ","))
	if len(p.Taints) > 0 {
		words = append(words, "--node-taints="+strings.Join(p.allTaints(), ","))
	}
	return lines(words)
}

func aks(c clusterConfig, name string, p poolConfig) string {
	words := []string{"az aks nodepool add --name " + quote(name),
		"--resource-group " + c.ResourceGroup, "--cluster-name " + c.Name, "--mode User", "--node-vm-size " + p.MachineType,
		"--node-count " + itoa(p.Count.Min), fmt.Sprintf("--enable-cluster-autoscaler --min-count %d --max-count %d", p.Count.Min, p.Count.Max),
	}
	if p.BootDisk > 0 {
		words = append(words, "--node-osdisk-type Managed", "--node-osdisk-size "+gibibytes(p.BootDisk))
	}
	if p.LocalDisks > 0 { // what pods write is on the machine's own temporary disk then
		words = append(words, "--kubelet-disk-type Temporary")
	}
	var labels []string
	for _, l := range p.allLabels(name) {
		labels = append(labels, quote(l))
	}
	words = append(words, "--labels "+strings.Join(labels, " "))
	if len(p.Taints) > 0 {
		words = append(words, "--node-taints "+quote(strings.Join(p.allTaints(), ",")))
	}
	return lines(words)
}

// lines joins the words of a command, one option on each line.
func lines(words []string) string { return strings.Join(words, " \\\n  ") + "\n" }

// eks goes by a file, since eksctl has no options for taints, nor for instance stores. What it holds was checked: no
// value can end the here-document or be another type of YAML.
func eks(c clusterConfig, name string, p poolConfig) string {
	var b strings.Builder
	w := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	w("eksctl create nodegroup --config-file=- <<'EOF'")
	w("apiVersion: eksctl.io/v1alpha5")
	w("kind: ClusterConfig")
	w("metadata: {name: %q, region: %q}", c.Name, c.Location)
	w("managedNodeGroups:")
	w("  - name: %q", name)
	w("    amiFamily: AmazonLinux2023")
	w("    instanceType: %q", p.MachineType)
	w("    minSize: %d", p.Count.Min)
	w("    desiredCapacity: %d", p.Count.Min)
	w("    maxSize: %d", p.Count.Max)
	if p.BootDisk > 0 {
		w("    volumeType: gp3")
		w("    volumeSize: %s", gibibytes(p.BootDisk))
	}
	w("    labels:")
	for _, l := range p.allLabels(name) {
		k, v, _ := strings.Cut(l, "=")
		w("      %q: %q", k, v)
	}
	if len(p.Taints) > 0 {
		w("    taints:")
		for _, text := range p.Taints {
			t, _ := parseTaint(text) // it was checked
			w("      - {key: %q, value: %q, effect: %s}", t.key, t.value, t.effect)
		}
	}
	if p.LocalDisks > 0 {
		w("    # All instance stores of the machine (%d wanted) become one, and what pods write is on it.", p.LocalDisks)
		w("    overrideBootstrapCommand: |")
		w("      apiVersion: node.eks.aws/v1alpha1")
		w("      kind: NodeConfig")
		w("      spec: {instance: {localStorage: {strategy: RAID0}}}")
	}
	w("EOF")
	return b.String()
}

// k3s is for each machine: there is nobody to ask for one. The disk's name is the operator's to fill in; mkfs refuses one
// that is in use, and asks before it overwrites a file system.
func k3s(c clusterConfig, name string, p poolConfig) string {
	var b strings.Builder
	w := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	w("# On each machine, %d to %d of the type %s, as root. The join token is in /root/k3s-token.", p.Count.Min, p.Count.Max, p.MachineType)
	w("set -eu")
	switch p.LocalDisks {
	case 0:
	case 1:
		w("disk=/dev/nvme1n1  # the local disk, not the one that the machine starts from: see lsblk")
	default:
		w("apt-get install -y mdadm")
		w("# The %d local disks, not the one that the machine starts from: see lsblk.", p.LocalDisks)
		var disks []string
		for i := range p.LocalDisks {
			disks = append(disks, fmt.Sprintf("/dev/nvme%dn1", i+1))
		}
		w("disk=/dev/md/bindery")
		w("mdadm --create \"$disk\" --level=0 --raid-devices=%d %s", p.LocalDisks, strings.Join(disks, " "))
	}
	if p.LocalDisks > 0 {
		w("mkfs.ext4 -i 8192 -L bindery \"$disk\"")
		w("mkdir -p /var/lib/bindery")
		w("echo 'LABEL=bindery /var/lib/bindery ext4 defaults,noatime 0 2' >>/etc/fstab")
		w("mount /var/lib/bindery")
	}
	words := []string{"curl -sfL https://get.k3s.io | K3S_URL=" + quote(c.Server) + " K3S_TOKEN_FILE=/root/k3s-token sh -s - agent"}
	for _, l := range p.allLabels(name) {
		words = append(words, "--node-label "+quote(l))
	}
	for _, t := range p.allTaints() {
		words = append(words, "--node-taint "+quote(t))
	}
	b.WriteString(lines(words))
	return b.String()
}

var shellSafeRE = regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]+$`)

// quote makes one word of a shell of a text.
func quote(text string) string {
	if shellSafeRE.MatchString(text) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
