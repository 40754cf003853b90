// SPDX-License-Identifier: GPL-2.0
/* ngctl list and info */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "ngctl.h"

static const struct {
	unsigned int bit;
	const char *name;
} features[] = {
	{ NVME_NG_F_SGL, "SGL" },
	{ NVME_NG_F_EXT_LBA, "extended metadata" },
	{ NVME_NG_F_POLL, "poll queues" },
	{ NVME_NG_F_REGIONS, "regions" },
};

/* Columns are as wide as what is in them. */
enum { COLUMNS = 8 };

static void print_table(char *cells[][COLUMNS], unsigned int rows)
{
	unsigned int row, col, width[COLUMNS] = { 0 };

	for (row = 0; row < rows; row++)
		for (col = 0; col < COLUMNS; col++)
			if (strlen(cells[row][col]) > width[col])
				width[col] = strlen(cells[row][col]);
	for (row = 0; row < rows; row++) {
		for (col = 0; col < COLUMNS; col++)
			printf("%-*s%s", col < COLUMNS - 1 ? width[col] : 0,
			       cells[row][col], col < COLUMNS - 1 ? "  " : "\n");
	}
}

static void json_node(const struct node *node)
{
	json_string("node", node->path);
	json_string("serial", node->serial);
	json_string("model", node->model);
	json_string("firmware", node->firmware);
	json_string("parent", node->parent);
	json_string("controllers", node->controllers);
	json_string("transport", node->transport);
	json_string("block", node->block);
	json_string("access", node_access(node));
	json_string("driver", driver_name());
	if (node->known)
		json_limits(&node->lim);
	else if (node->nsid_known)
		json_number("nsid", node->lim.nsid);
}

int cmd_list(int argc, char **argv)
{
	static char *const titles[COLUMNS] = {
		"NODE", "SERIAL", "NSID", "SET", "FORMAT", "TRANSFER", "ACCESS",
		"DRIVER",
	};
	unsigned int i, n;
	char *(*cells)[COLUMNS], text[128];
	struct node *nodes;

	if (argc)
		die("list takes no '%s': see ngctl list --help", argv[0]);
	n = find_nodes(&nodes);
	if (json) {
		json_open(NULL, '[');
		for (i = 0; i < n; i++) {
			json_open(NULL, '{');
			json_node(&nodes[i]);
			json_close();
		}
		json_close();
		return 0;
	}
	if (!n)
		die("there are no nodes: 'ngctl doctor' says why");
	cells = must_alloc((n + 1) * sizeof(*cells));
	memcpy(cells[0], titles, sizeof(titles));
	for (i = 0; i < n; i++) {
		const struct node *node = &nodes[i];
		char **cell = cells[i + 1];

		cell[0] = strdup(node->path);
		cell[1] = strdup(node->serial);
		snprintf(text, sizeof(text), "%u", node->lim.nsid);
		cell[2] = strdup(node->nsid_known ? text : "-");
		cell[3] = strdup(node->known ? csi_name(node->lim.csi) : "-");
		if (node->known && !strcmp(cell[3], "unknown")) {
			snprintf(text, sizeof(text), "%02Xh", node->lim.csi);
			cell[3] = strdup(text);
		}
		cell[4] = strdup(node_format(node, text, sizeof(text)));
		cell[5] = strdup(node->known ?
				 bytes(node->lim.max_transfer, text) : "-");
		cell[6] = strdup(node_access(node));
		cell[7] = strdup(driver_name());
	}
	print_table(cells, n + 1);
	return 0;
}

static void line(const char *title, const char *value)
{
	printf("%-14s %s\n", title, *value ? value : "-");
}

static __u64 le64(const unsigned char *p)
{
	__u64 value;

	memcpy(&value, p, sizeof(value));
	return le64toh(value);
}

/* Sizes of the namespace, which the controller is asked for. */
static bool sizes(const struct node *node, __u64 *size, __u64 *used)
{
	unsigned char id[4096];
	struct nvmeng *dev;
	__u32 unit;
	int ret;

	if (!node->known || (node->lim.csi != NVMENG_CSI_KV && !node->lim.lba_size))
		return false;
	if (nvmeng_open(node->path, O_RDONLY, &dev))
		return false;
	if (node->lim.csi == NVMENG_CSI_KV) {
		/* bytes, in the command set's own structure */
		unit = 1;
		ret = nvmeng_identify(dev, 0x05, NVMENG_CSI_KV, id);
	} else {
		unit = node->lim.lba_size;
		ret = nvmeng_identify(dev, 0x00, 0, id);
	}
	nvmeng_close(dev);
	*size = le64(id) * unit;
	*used = le64(id + 16) * unit;
	return !ret;
}

int cmd_info(int argc, char **argv)
{
	const struct nvme_ng_limits *lim;
	char text[192], value[BYTES_LEN];
	bool has_size;
	__u64 size, used;
	struct node node;
	size_t i;

	if (argc != 1)
		die("info takes one NODE: see ngctl info --help");
	find_node(argv[0], &node);
	lim = &node.lim;
	has_size = sizes(&node, &size, &used);
	if (json) {
		json_open(NULL, '{');
		json_node(&node);
		if (has_size) {
			json_number("size", size);
			json_number("used", used);
		}
		json_close();
		return 0;
	}
	line("node", node.path);
	line("serial", node.serial);
	line("model", node.model);
	line("firmware", node.firmware);
	snprintf(text, sizeof(text), "%s%s%s%s", node.controllers,
		 *node.transport ? ", " : "", node.transport,
		 strchr(node.controllers, ' ') ? ", multipath" : "");
	line("controllers", text);
	if (*node.dead)
		line("state", node.dead);
	line("block device", node.block);
	line("access", node_access(&node));
	line("driver", driver_name());
	if (node.nsid_known)
		printf("%-14s %u\n", "NSID", lim->nsid);
	if (!node.known) {
		printf("the limits are not known, as the driver is not nvme-ng: see ngctl doctor\n");
		return 0;
	}
	printf("%-14s %02Xh, %s\n", "command set", lim->csi, csi_name(lim->csi));
	line("format", node_format(&node, text, sizeof(text)));
	if (has_size) {
		line("size", bytes(size, value));
		line("used", bytes(used, value));
	}
	line("transfer", bytes(lim->max_transfer, value));
	printf("%-14s %u\n", "segments", lim->max_segments);
	if (lim->max_metadata)
		line("metadata", bytes(lim->max_metadata, value));
	if (lim->max_append)
		line("append", bytes(lim->max_append, value));
	line("alignment", bytes(lim->dma_alignment, value));
	if (lim->virt_boundary)
		line("boundary", bytes(lim->virt_boundary, value));
	text[0] = '\0';
	for (i = 0; i < ARRAY_SIZE(features); i++) {
		if (!(lim->features & features[i].bit))
			continue;
		if (*text)
			strcat(text, ", ");
		strcat(text, features[i].name);
	}
	line("features", text);
	return 0;
}
