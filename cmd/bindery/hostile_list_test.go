package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/bindery-hub/bindery/web"
)

func hubGet(path, more string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: hub.example\r\nConnection: close\r\n" + more + "\r\n"
}

const wantStream = "Accept: text/event-stream\r\n"

// attacks lists them all.
func (s *stronghold) attacks() []attack {
	var all []attack
	add := func(kind, want, text string) {
		all = append(all, attack{kind: kind, text: text, to: s.hub, want: want})
	}
	build := func(kind, want, spec string) { add(kind, want, hubGet("/build/"+spec, wantStream)) }
	s.specs(build)
	s.addresses(build)
	s.names(build)
	s.credentials(add)
	s.cookies(add)
	s.evasions(build, add)
	all = append(all, s.strangers()...)
	return all
}

// specs are of repositories, refs and URLs that are none.
func (s *stronghold) specs(build func(kind, want, spec string)) {
	const failed = `"phase":"failed"`
	forge := url.QueryEscape(s.forge.URL + "/victim/quick")
	for _, spec := range []string{
		"gh/..%2F..%2Fuser/x/main", "gh/victim/quick%3Fper_page=1/main", "gh/victim/..%2F..%2F..%2Fuser/main", "gh/victim/%2e%2e/main", "gh/%00/%00/main", "gh/victim/quick%23/main",
		"gh/-victim/quick/main", "gh/u:p@victim/quick/main", "gh/victim", "gh/", "gh//x/y", "gl/a%2F..%2Fb/main", "gl/%2e%2e%2fuser/main", "gist/victim/../x", "gist/victim/%2e%2e%2f",
		"zenodo/10.5281/..%2Fzenodo.1", "zenodo/https:%2F%2Fevil.example%2F10.5281%2Fx", "figshare/10.6084/%0d%0aX-Evil:1", "hydroshare/../../x", "dataverse/10.7910/DVN/%2e%2e",
		"swh/swh:1:cnt:" + strings.Repeat("a", 40), "ckan/https%3A%2F%2Fx.example%2Fgroup%2Fy", "local/%2Fetc", "file/%2Fetc%2Fpasswd", "git/", "git/x",
	} {
		build("spec", failed, spec)
	}
	for _, raw := range []string{
		"file:///etc/passwd", "file:///", "ext::sh -c id", "fd::17", "--upload-pack=touch /x", "-o", "ssh://-oProxyCommand=id/x", "git@-oProxyCommand=id:x/y", "javascript:alert(1)",
		"data:text/html,x", "http://", "https://user:pw@127.0.0.1:1/x", "http://[::1", "http://127.0.0.1:99999/x", "https://evil.example\\@127.0.0.1/x", "http://a b/x", "http://%00/x",
		"gopher://127.0.0.1:" + s.port + "/_x", "dict://127.0.0.1:" + s.port + "/x", "ftp://127.0.0.2:" + s.port + "/x", "ftps://127.0.0.2:" + s.port + "/x", "rsync://127.0.0.2/x", "svn://127.0.0.2:" + s.port + "/x",
		"ldap://127.0.0.2:" + s.port + "/x", "unix:/run/docker.sock", "/etc", "../../x", "git://127.0.0.2:" + s.port + "/x", "https://" + strings.Repeat("a.", 2000) + "example/x",
	} {
		build("url", failed, "git/"+url.QueryEscape(raw)+"/main")
	}
	for _, ref := range []string{
		"--upload-pack=touch%20x", "-x", "--", "a..b", "..", "%2e%2e%2f%2e%2e", "@%7B", "a%00b", "a%0Ab", "a%0d%0aX-Evil:%201", "refs/heads/../x", "a%5Cb", "a%3Ab:c", "a~1", "a^{}", "a%2A", "a%3F", "a%5Bb",
		strings.Repeat("a", 5000), "%24%28id%29", "%60id%60%60", "x.lock", strings.Repeat("0", 40) + "%2Fx", "%F0%28%8C%28",
	} {
		build("ref", failed, "git/"+forge+"/"+ref)
	}
}

// addresses are closed ones of both families, in all their spellings, as repositories, datasets and where redirects lead.
func (s *stronghold) addresses(build func(kind, want, spec string)) {
	const refused = `"kind":"(not-allowed|unreachable|invalid|repo-not-found)"`
	four := []string{"127.0.0.2", "127.2", "2130706434", "0x7f000002", "017700000002", "0.0.0.0", "0", "10.0.0.1", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1", "224.0.0.1", "255.255.255.255", "198.18.0.1"}
	six := []string{"[::1]", "[::]", "[::ffff:127.0.0.2]", "[::ffff:7f00:2]", "[0:0:0:0:0:0:0:1]", "[64:ff9b::7f00:2]", "[2002:7f00:2::]", "[fd00::1]", "[fe80::1]", "[fe80::1%25lo]", "[ff02::1]", "[::127.0.0.2]", "[fec0::1]", "[64:ff9b:1::7f00:2]"}
	for kind, hosts := range map[string][]string{"IPv4": four, "IPv6": six} {
		for _, host := range hosts {
			at := "http://" + host + ":" + s.port
			build(kind, refused, "git/"+url.QueryEscape(at+"/o/r")+"/main")
			build(kind, refused, "ckan/"+url.QueryEscape(at+"/dataset/x"))
		}
		for i, host := range hosts[:7] { // the forge is allowed, what it points to is not
			path := fmt.Sprintf("/moved/%s-%d", kind, i)
			s.forge.Redirect(path, "http://"+host+":"+s.port+"/o/r")
			build("redirect", `"phase":"failed"`, "git/"+url.QueryEscape(s.forge.URL+path)+"/main")
		}
	}
}

// names are of an attacker's domain, which are at closed addresses, at once or when they are asked for again.
func (s *stronghold) names(build func(kind, want, spec string)) {
	const refused = `"kind":"(not-allowed|unreachable|repo-not-found)"`
	for i, at := range []string{"127_0_0_2", "10_0_0_1", "169_254_169_254", "192_168_0_1", "0--1", "0--ffff-7f00-2", "fd00--1", "64-ff9b--7f00-2"} {
		host := "http://" + at + ".at.example:" + s.port
		build("rebinding", refused, "git/"+url.QueryEscape(host+"/o/r")+"/main")
		build("rebinding", refused, "ckan/"+url.QueryEscape(host+"/dataset/x"))
		_, port, _ := net.SplitHostPort(strings.TrimPrefix(s.forge.URL, "http://"))
		host = fmt.Sprintf("http://%s.rebind.example", at)
		path := fmt.Sprintf("/turned/%d", i) // the first answer is the forge's, which leads to the same name once more
		s.forge.Redirect(path, host+":"+s.port+"/o/r")
		build("rebinding", `"phase":"failed"`, "git/"+url.QueryEscape(host+":"+port+path)+"/main")
	}
}

// evasions are names that nobody uses by accident of what is banned, or has all the sessions that it may have.
func (s *stronghold) evasions(build func(kind, want, spec string), add func(kind, want, text string)) {
	const live, configured, full = "is not served at the moment", "is not allowed to launch", "Too many users running"
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(s.forge.URL, "http://"))
	git := func(at string) string { return "git/" + url.QueryEscape(at) + "/main" }
	api := func(want, at, rest string) {
		for _, path := range []string{"builds", "sessions"} {
			body := fmt.Sprintf(`{"source":{"url":%q%s}}`, at, rest)
			text := hubGet("/api/v1/"+path, fmt.Sprintf("Authorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n", courseToken, len(body)))
			add("ban", want, strings.Replace(text, "GET", "POST", 1)+body)
		}
	}
	for repo, want := range map[string]string{"bad/repo": live, "evil/any": live, "worst/any": configured} {
		owner, name, _ := strings.Cut(repo, "/")
		for _, path := range []string{repo, strings.ToUpper(repo), repo + ".git", "/" + repo, owner + "//" + name + "///", owner + "%2F" + name, "%" + fmt.Sprintf("%x", owner[0]) + owner[1:] + "/" + name + "%2egit", repo + "/.git"} {
			for _, at := range []string{s.forge.URL, "HTTP://127.0.0.1:0" + port, "https://127.0.0.1.:" + port} {
				build("ban", want, git(at+"/"+path))
			}
		}
		for _, spec := range []string{repo + ".git/main", strings.ToUpper(repo) + "/HEAD", owner + "/" + name + ".GIT/main", repo + "/%6dain", repo + "/refs%2fheads%2fmain"} {
			build("ban", want, "gh/"+spec)
		}
		refused := map[string]string{live: live, configured: "does not launch"}[want]
		api("^403.*"+refused, s.forge.URL+"/"+repo, "")
		api("^403.*"+refused, s.forge.URL+"//"+strings.ToUpper(repo)+".git", `,"ref":"main"`)
	}
	for _, at := range []string{
		"https://github.com:443/bad/repo", "https://github.com./bad/repo", "http://www.github.com//bad/%72epo.git/", "git@github.com:Bad/Repo", "ssh://git@ssh.github.com:443/bad/repo.git", "https://github.com/bad%2Frepo", "git://github.com/bad/repo",
		"http://gitlab.com/Evil/any", "git@gitlab.com:evil/any", "https://gitlab.com:/evil/a/b", "https://HOST.example:443/worse/any", "http://host.example./worse//any.git",
	} {
		build("ban", live, git(at))
		api("^403.*"+live, at, "")
	}
	for _, spec := range []string{"doi:10.5281/zenodo.1", "10.5281%2Fzenodo.1", "https%3A%2F%2Fdoi.org%2F10.5281%2Fzenodo.1", "HTTPS:%2F%2Fdx.doi.org%2F10.5281%2Fzenodo.1", "10.5281/Zenodo.1//"} {
		build("ban", configured, "zenodo/"+spec)
	}
	for _, at := range []string{"https://github.com/x/../bad/repo", "https://github.com/%2e/bad/repo", "https://github.com/bad/repo?x=1", "https://github.com/bad/repo#x", "https://\uff47ithub.com/bad/repo"} {
		build("ban", `"kind":"invalid"`, git(at))
		api("^400", at, "")
	}
	for _, path := range []string{"victim/quick", "victim/quick.git", "Victim/QUICK", "/victim//quick/", "victim%2Fquick", "%76ictim/quick"} {
		for _, at := range []string{s.forge.URL, "HTTP://127.0.0.1.:0" + port} {
			build("quota", full, git(at+"/"+path))
		}
	}
	for _, spec := range []string{"victim/quick/main", "victim/quick.git/main", "VICTIM/quick/HEAD", "victim/quick/%6dain", "victim/quick/refs%2Fheads%2Fmain"} {
		build("quota", full, "gh/"+spec)
	}
}

// credentials are tokens, cookies and headers that nobody was given.
func (s *stronghold) credentials(add func(kind, want, text string)) {
	b64 := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	spec := "/build/git/" + url.QueryEscape(s.forge.URL+"/victim/quick") + "/main"
	for _, token := range []string{
		"x", "a.b.c", strings.Repeat("A", 30_000), "%00", b64(`{"alg":"none"}`) + "." + b64(`{"aud":"git/x","exp":9999999999}`) + ".", "null",
		b64(`{"alg":"HS256","kid":"../../hub.secret"}`) + "." + b64(`{"exp":1e400}`) + ".AAAA", b64(`{"alg":"RS256","jku":"http://127.0.0.2:`+s.port+`/"}`) + "." + b64(`[]`) + ".AAAA",
		b64(`{"alg":"HS512"}`) + "." + b64(`{"aud":["a","b"],"exp":"soon"}`) + ".", "%0d%0aX-Evil:%201", "-1", "%27%20or%201=1--",
	} {
		add("token", "Invalid build token", hubGet(spec+"?build_token="+token, wantStream))
		add("token", "^(401|403|404|400|431)", hubGet("/api/v1/sessions", "Authorization: Bearer "+token+"\r\n"))
		add("cookie", "^(401|403|400)", hubGet("/api/v1/audit", "Cookie: token="+token[:min(len(token), 2000)]+"; _xsrf=x; session=admin; jupyterhub-session-id="+s.victim.ID+"\r\n"))
	}
	for _, more := range []string{
		"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "Content-Length: -1\r\n", "Content-Length: 5\r\nContent-Length: 6\r\n", "Expect: 100-continue\r\n", "X-Forwarded-Host: evil.example\r\n", "X-Forwarded-Prefix: //evil.example\r\n",
		"X-Original-URL: /api/v1/sessions\r\n", "X-Rewrite-URL: /api/v1/sessions\r\n", "X-Http-Method-Override: DELETE\r\n", "Range: bytes=0-1,0-2,0-3\r\n", "Origin: null\r\n", "User-Agent: <script>alert(1)</script>\r\n",
		"Accept-Language: ../../../etc/passwd\r\n", "If-None-Match: *\r\n", "Last-Event-ID: ../../x.1\r\n", "Last-Event-ID: x.99999999999999999999\r\n", "Accept: " + strings.Repeat("text/html,", 3000) + "\r\n", "Bindery-As: root\r\n",
		"Cookie: " + strings.Repeat("a=b; ", 2000) + "\r\n", "Content-Type: multipart/form-data; boundary=" + strings.Repeat("x", 5000) + "\r\n", "X: " + strings.Repeat("y", 100_000) + "\r\n", "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
	} {
		add("header", "", hubGet("/v2/git/x/y", more))
		add("header", "^(401|403|404|400|431|0)", hubGet("/api/v1/audit", more))
	}
	for _, to := range []string{"//evil.example", "https://evil.example/x", "\\evil.example", "javascript:alert(1)", "%0d%0aLocation:%20//evil.example", "/%09/evil.example"} {
		add("redirect", "", hubGet("/go?repository="+url.QueryEscape(to), ""))
		add("redirect", "", hubGet("/repo/"+to, ""))
		add("redirect", "", hubGet("/repo/a/b/"+to, ""))
	}
}

// cookies are of nobody who has signed in: forged, of others, of other kinds, too many, broken.
func (s *stronghold) cookies(add func(kind, want, text string)) {
	b64 := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	ticket := b64(`{"n":"ops","p":"x","i":"1","b":1,"u":9999999999}`)
	signed := func(key string) string {
		mac := hmac.New(sha256.New, []byte(key))
		mac.Write([]byte("ticket " + ticket))
		return ticket + "." + hex.EncodeToString(mac.Sum(nil))
	}
	for _, value := range []string{
		"", ".", "x", ticket, ticket + ".", ticket + "." + strings.Repeat("0", 64), signed(""), signed("x"), signed(web.HashToken(apiToken)), signed(s.victim.ID), b64("null") + "." + b64("null"), strings.Repeat("A", 30_000),
		"%00", "\x00", "\"" + signed("") + "\"", b64(`{"u":1e400}`) + ".x", b64(`{"alg":"none"}`) + "." + b64(`{"sub":"ops","exp":9999999999}`) + ".", "<script>alert(1)</script>",
	} {
		cookie := "Cookie: bindery_admin=" + value + "; bindery_user=" + value + "; _xsrf=x\r\n"
		add("cookie", "^(303|400)", hubGet("/admin/rules", cookie))
		add("cookie", "^(401|403|400)", hubGet("/api/v1/audit", cookie))
		add("cookie", "^(403|400)", strings.Replace(hubGet("/admin/rules", cookie+"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 6\r\n")+"form=x", "GET", "POST", 1))
	}
	for _, next := range []string{"//evil.example", "https://evil.example/admin/", "/\\evil.example/admin/", "%0d%0aX-Evil:%201/admin/", "/admin/../../evil"} {
		add("redirect", "^(200|303|400|404)", hubGet("/admin/login?next="+next, ""))
		add("redirect", "^(303|400|404)", hubGet("/admin/rules?x="+next, ""))
	}
}

// strangers come from banned addresses and say that they are others, and ask for somebody's session.
func (s *stronghold) strangers() (all []attack) {
	for _, says := range []string{
		"", "X-Forwarded-For: 203.0.113.1\r\n", "X-Forwarded-For: 127.0.0.1\r\n", "X-Forwarded-For: 203.0.113.1, 127.0.0.1\r\n", "X-Real-Ip: 203.0.113.1\r\n", "X-Real-Ip: 127.0.0.1\r\n", "Forwarded: for=127.0.0.1\r\n",
		"True-Client-Ip: 127.0.0.1\r\n", "Cf-Connecting-Ip: 127.0.0.1\r\n", "X-Client-Ip: 127.0.0.1\r\n", "X-Forwarded-For: ::1\r\nX-Forwarded-For: 127.0.0.1\r\n", "X-Cluster-Client-Ip: 127.0.0.1\r\n",
	} {
		all = append(all,
			attack{kind: "forwarded", text: hubGet("/v2/git/x/y", says), to: s.hub, from: "127.0.0.66", want: "^403"},
			attack{kind: "forwarded", text: hubGet("/build/git/x/y", wantStream+says), to: s.hub6, from: "::1", want: "Requests from it are not allowed"})
	}
	id := s.victim.ID
	for _, text := range []string{
		hubGet("/api/v1/sessions/"+id, ""), hubGet("/api/v1/sessions/"+id+"/log", ""), hubGet("/api/v1/sessions/"+id+"?token="+apiToken, ""), hubGet("/api/v1/sessions/"+id, "Authorization: Bearer "+id+"\r\n"),
		hubGet("/api/v1/sessions/"+id, "Authorization: Basic "+base64.StdEncoding.EncodeToString([]byte("admin:admin"))+"\r\n"), hubGet("/api/v1/sessions/..%2Fsessions%2F"+id, ""),
		hubGet("/api/v1/sessions/"+id, "Authorization: token "+id+"\r\n"), hubGet("/api/v1/sessions/"+id, "Authorization: Bearer "+s.victim.Token[:len(s.victim.Token)-1]+"\r\n"),
		hubGet("/api/v1/sessions/"+id, "Authorization: Bearer  \r\n"), hubGet("/api/v1/sessions/"+id, "Authorization: Bearer "+s.victim.Build+"\r\n"), hubGet("/api/v1/sessions/"+id+"/log?follow=1", "Cookie: token="+id+"\r\n"),
		strings.Replace(hubGet("/admin/sessions/"+id+"/stop", "Content-Length: 0\r\n"), "GET", "POST", 1), hubGet("/admin/sessions/"+id+"/stop", ""),
		strings.Replace(hubGet("/api/v1/sessions/"+id, "X-Http-Method-Override: DELETE\r\nContent-Length: 0\r\n"), "GET", "POST", 1),
		strings.Replace(hubGet("/api/v1/sessions/"+id, ""), "GET", "DELETE", 1), strings.Replace(hubGet("/api/v1/builds/"+s.victim.Build, ""), "GET", "DELETE", 1),
		strings.Replace(hubGet("/api/v1/builds/"+s.victim.Build+"/retry", "Content-Length: 0\r\n"), "GET", "POST", 1),
		strings.Replace(hubGet("/api/v1/sessions", "Content-Type: application/json\r\nContent-Length: 2\r\n")+"{}", "GET", "POST", 1),
		strings.Replace(hubGet("/api/v1/rules", "Content-Type: application/json\r\nContent-Length: 2\r\n")+"{}", "GET", "POST", 1),
	} {
		all = append(all, attack{kind: "session", text: text, to: s.hub, want: "^(401|403|404|405|400)"})
	}
	for _, line := range []string{
		"GET /user/nobody/ HTTP/1.1", "GET /user/..%2f" + id + "/ HTTP/1.1", "GET http://127.0.0.2:" + s.port + "/user/x/ HTTP/1.1", "CONNECT 127.0.0.2:" + s.port + " HTTP/1.1", "GET /user/" + id + "@127.0.0.2:" + s.port + "/ HTTP/1.1",
		"GET //127.0.0.2:" + s.port + "/ HTTP/1.1", "GET /api/v1/sessions HTTP/1.1", "GET /user/ HTTP/1.1",
	} {
		all = append(all, attack{kind: "session", text: line + "\r\nHost: 127.0.0.2:" + s.port + "\r\nConnection: close\r\n\r\n", to: s.sessions, want: "^(4|0)"})
	}
	return slices.Clip(all)
}
