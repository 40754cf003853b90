// SPDX-License-Identifier: GPL-2.0
/* A namespace behind two controllers has one node, the multipath head's. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "active.h"

static struct nt_dev *ctrls;
static size_t nr_ctrls;

static bool is_multipath(void)
{
	FILE *f = fopen("/sys/module/nvme_core/parameters/multipath", "r");
	bool yes = f && fgetc(f) == 'Y';

	if (f)
		fclose(f);
	return yes;
}

/* Is the node's parent a subsystem, which only a head's is? */
static bool is_head(const struct nt_dev *node)
{
	char path[600], real[PATH_MAX], want[PATH_MAX];

	snprintf(path, sizeof(path), "%s/device/subsystem", node->sysfs);
	return realpath(path, real) &&
	       realpath("/sys/class/nvme-subsystem", want) &&
	       !strcmp(real, want);
}

static bool has(const struct active *a, __u32 nsid)
{
	unsigned int i;

	for (i = 0; i < a->n; i++)
		if (a->nsid[i] == nsid)
			return true;
	return false;
}

/* Find what controllers of the same subsystem share, look at its nodes. */
static void shared(enum nt_via via)
{
	static struct active a, b;
	unsigned int found = 0, k;
	struct nt_dev x, y;
	struct nt_ns ns;
	size_t i, j;
	int got, want;

	if (!is_multipath())
		nt_skip("nvme_core.multipath is off");
	for (i = 0; i < nr_ctrls; i++) {
		for (j = i + 1; j < nr_ctrls; j++) {
			if (strcmp(ctrls[i].serial, ctrls[j].serial))
				continue;
			a.ctrl = &ctrls[i];
			b.ctrl = &ctrls[j];
			active_list(&a, via);
			active_list(&b, via);
			for (k = 0; k < a.n; k++) {
				if (!has(&b, a.nsid[k]))
					continue;
				found++;
				nt_eq(active_node(&a, a.nsid[k], &x), true);
				nt_eq(active_node(&b, a.nsid[k], &y), true);
				nt_eq(strcmp(x.path, y.path), 0);
				nt_eq(is_head(&x), true);
				nt_close(&x);
				nt_close(&y);
				nt_open_ns(&ns, x.path);
				got = active_harmless(&ns, via, &want);
				nt_status(got, want);
				nt_close_ns(&ns);
			}
		}
	}
	if (!found)
		nt_fail("no two controllers share a namespace");
}

static void by_uring(void *arg)
{
	(void)arg;
	shared(NT_URING);
}

static void by_ioctl(void *arg)
{
	(void)arg;
	shared(NT_IOCTL);
}

int main(int argc, char **argv)
{
	static const struct nt_prog prog = {
		.what = "Test the nodes of namespaces that controllers share.",
	};

	nt_init(argc, argv, &prog);
	ctrls = nt_controllers(&nr_ctrls);
	nt_plan(2);
	nt_test(by_uring, NULL, "uring shared");
	nt_test(by_ioctl, NULL, "ioctl shared");
	return nt_end();
}
