/* SPDX-License-Identifier: GPL-2.0 */
#ifndef ACTIVE_H
#define ACTIVE_H

#include "nvme_test.h"

/**
 * struct active - the active namespaces of a controller
 * @ctrl: the controller
 * @n: how many
 * @nsid: which, in ascending order
 */
struct active {
	struct nt_dev *ctrl;
	unsigned int n;
	__u32 nsid[1024];
};

int active_main(int argc, char **argv, const struct nt_prog *prog);
int active_identify(struct nt_dev *ctrl, enum nt_via via, __u8 cns, __u8 csi,
		    __u32 nsid, void *data);
void active_list(struct active *a, enum nt_via via);
bool active_node(const struct active *a, __u32 nsid, struct nt_dev *node);
int active_harmless(struct nt_ns *ns, enum nt_via via, int *want);

#endif /* ACTIVE_H */
