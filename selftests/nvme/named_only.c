// SPDX-License-Identifier: GPL-2.0
/*
 * No program of this directory opens an NVMe device that was not named: every
 * open of every NVMe node is watched while they run.
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <fcntl.h>

#include "nvme_test.h"

#define MAX_NODES 256

static char own_dir[PATH_MAX - 300];

struct watch {
	int fd;
	int n;
	char path[MAX_NODES][300];
	int wd[MAX_NODES];
	unsigned int opened[MAX_NODES];
};

/* Watch the nodes of a class; only those of foreign serials if asked. */
static void watch_class(struct watch *w, const char *class, bool foreign)
{
	DIR *dir = opendir(class);
	struct dirent *e;

	while (dir && (e = readdir(dir))) {
		char sysfs[600], serial[64] = "";

		if (strncmp(e->d_name, "nvme", 4) && strncmp(e->d_name, "ng", 2))
			continue;
		snprintf(sysfs, sizeof(sysfs), "%s/%s", class, e->d_name);
		if (foreign && (!nt_serial(sysfs, serial, sizeof(serial)) ||
				!strncmp(serial, "NVMENG-", 7)))
			continue;
		snprintf(w->path[w->n], sizeof(w->path[0]), "/dev/%s",
			 e->d_name);
		w->wd[w->n] = inotify_add_watch(w->fd, w->path[w->n], IN_OPEN);
		/* hidden block devices have no node */
		if (w->wd[w->n] < 0 && errno != ENOENT)
			nt_die("cannot watch %s: %m", w->path[w->n]);
		w->n += w->wd[w->n] >= 0;
		if (w->n == MAX_NODES)
			nt_die("more than %d NVMe nodes", MAX_NODES);
	}
	if (dir)
		closedir(dir);
}

static void watch(struct watch *w, bool foreign)
{
	memset(w, 0, sizeof(*w));
	w->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (w->fd < 0)
		nt_die("inotify_init1: %m");
	watch_class(w, "/sys/class/nvme", foreign);
	watch_class(w, "/sys/class/nvme-generic", foreign);
	watch_class(w, "/sys/class/block", foreign);
}

static void count_opens(struct watch *w)
{
	union {
		struct inotify_event first;
		char bytes[8192];
	} buf;
	ssize_t len, at;
	int i;

	while ((len = read(w->fd, &buf, sizeof(buf))) > 0) {
		struct inotify_event *e;

		for (at = 0; at < len; at += sizeof(*e) + e->len) {
			e = (void *)(buf.bytes + at);
			for (i = 0; i < w->n; i++)
				if (w->wd[i] == e->wd)
					w->opened[i]++;
		}
	}
	close(w->fd);
}

/* How often nodes were opened, those not counted that @except names. */
static unsigned int opens(struct watch *w, const char *except[])
{
	unsigned int total = 0;
	int i, j;

	count_opens(w);
	for (i = 0; i < w->n; i++) {
		for (j = 0; except && except[j]; j++)
			if (!strcmp(except[j], w->path[i]))
				break;
		if (except && except[j])
			continue;
		if (w->opened[i])
			nt_note("%s was opened %u times", w->path[i],
				w->opened[i]);
		total += w->opened[i];
	}
	return total;
}

/* Run a program of this directory quietly; its exit status. */
static int run(const char *name, const char *arg, const char *devices)
{
	char path[PATH_MAX];
	int status, null;
	pid_t pid;

	snprintf(path, sizeof(path), "%s/%s", own_dir, name);
	pid = fork();
	if (pid < 0)
		nt_die("fork: %m");
	if (!pid) {
		unsetenv("NVME_TESTBED");
		unsetenv("NVME_TEST_DEV");
		if (devices)
			setenv("NVME_TEST_DEV", devices, 1);
		null = open("/dev/null", O_RDWR);
		dup2(null, 1);
		dup2(null, 2);
		execl(path, path, arg, NULL);
		_exit(127);
	}
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		nt_fail("%s died", name);
	return WEXITSTATUS(status);
}

static bool is_program(const char *name)
{
	char path[PATH_MAX], magic[4] = "";
	struct stat st;
	FILE *f;

	if (!strcmp(name, "named_only"))
		return false;
	snprintf(path, sizeof(path), "%s/%s", own_dir, name);
	if (stat(path, &st) || !S_ISREG(st.st_mode) || access(path, X_OK))
		return false;
	f = fopen(path, "r");
	if (!f)
		return false;
	if (fread(magic, 4, 1, f) != 1)
		magic[0] = '\0';
	fclose(f);
	return !memcmp(magic, "\177ELF", 4);
}

/* Without a device every program skips, having opened nothing. */
static void nothing_named(void *arg)
{
	DIR *dir = opendir(own_dir);
	unsigned int programs = 0;
	static struct watch w;
	struct dirent *e;

	(void)arg;
	watch(&w, false);
	if (!w.n)
		nt_fail("no NVMe node to watch");
	while (dir && (e = readdir(dir))) {
		/* what the harness runs is no test */
		if (!is_program(e->d_name) || !strcmp(e->d_name, "leftovers"))
			continue;
		nt_note("running %s", e->d_name);
		nt_eq(run(e->d_name, NULL, NULL), 4);
		programs++;
	}
	if (dir)
		closedir(dir);
	if (programs < 5)
		nt_fail("only %u programs in %s", programs, own_dir);
	nt_eq(opens(&w, NULL), 0);
}

/* One node named: it and its controllers are opened, nothing else is. */
static void one_named(void *arg)
{
	const struct nt_ns *ns = arg;
	const char *except[] = { ns->dev.path, ns->ctrl.path, NULL };
	static struct watch w;
	int i, own = -1;

	watch(&w, false);
	nt_eq(run("nvm_fixed", NULL, ns->dev.path), 0);
	nt_eq(opens(&w, except), 0);
	for (i = 0; i < w.n; i++)
		if (!strcmp(w.path[i], ns->dev.path))
			own = i;
	/* proves that opens are seen at all */
	if (own < 0 || !w.opened[own])
		nt_fail("%s was not opened", ns->dev.path);
}

/* In the test bed what has another serial number is left alone. */
static void foreign_serial(void *arg)
{
	static struct watch w;

	(void)arg;
	watch(&w, true);
	if (!w.n)
		nt_skip("every NVMe device here is the test bed's");
	nt_eq(run("nvm_fixed", "--testbed", NULL), 0);
	nt_eq(opens(&w, NULL), 0);
}

static bool is_plain_nvm(const struct nt_ns *ns)
{
	return ns->csi == NVME_CSI_NVM && !ns->ms;
}

int main(int argc, char **argv)
{
	static const struct nt_prog prog = {
		.what = "Test that no device is touched that was not named.",
		.wants = "NVM (without metadata)",
		.fits = is_plain_nvm,
	};
	struct nt_ns *ns;
	ssize_t len;
	size_t n;

	nt_init(argc, argv, &prog);
	len = readlink("/proc/self/exe", own_dir, sizeof(own_dir) - 1);
	if (len < 0)
		nt_die("/proc/self/exe: %m");
	own_dir[len] = '\0';
	*strrchr(own_dir, '/') = '\0';

	ns = nt_namespaces(&n);
	nt_plan(3);
	nt_test(nothing_named, NULL, "nothing_named");
	nt_test(one_named, ns, "one_named");
	nt_test(foreign_serial, NULL, "foreign_serial");
	return nt_end();
}
