//! What the org tells about its objects: all keys that real answers have (REST API guide, sObject Describe).

use crate::merging::is_mergeable;
use crate::schema::{Field, FieldType, Object, plural};
use serde_json::{Map, Value, json};

/// One field.
fn field(field: &Field) -> Value {
    use FieldType::{
        Address, Boolean, DateTime, Int, MultiPicklist, Picklist, Reference, TextArea,
    };
    let kind = field.kind;
    let whole = kind == Int;
    let numeric = kind.is_number();
    let choices: Vec<Value> = field
        .values
        .iter()
        .map(|value| {
            let default = field.default.as_ref().and_then(Value::as_str) == Some(value.as_str());
            json!({"active": true, "defaultValue": default, "label": value, "validFor": null, "value": value})
        })
        .collect();
    let default = match (&field.default, kind) {
        (None, Boolean) => Value::Bool(false),
        (Some(value), Boolean) => value.clone(),
        _ => Value::Null,
    };
    let formula = field.default.as_ref().filter(|_| field.custom() && kind != Boolean);
    let groupable =
        field.filterable() && !numeric && !matches!(kind, DateTime | MultiPicklist) || whole;
    let long = kind == TextArea && field.length > 255;
    json!({
        "aggregatable": field.filterable() && !matches!(kind, Boolean | MultiPicklist | Address),
        "aiPredictionField": false,
        "autoNumber": field.auto_number.is_some(),
        "byteLength": if kind == FieldType::Id || kind == Reference { 18 } else { field.length * 3 },
        "calculated": field.calculated(),
        "calculatedFormula": field.formula,
        "cascadeDelete": field.cascade,
        "caseSensitive": field.case_sensitive,
        "compoundFieldName": field.compound,
        "controllerName": null,
        "createable": field.createable && field.editable,
        "custom": field.custom(),
        "defaultValue": default,
        "defaultValueFormula": formula.map(|value| value.to_string()),
        "defaultedOnCreate": field.defaulted() || (!field.createable && field.required),
        "dependentPicklist": false,
        "deprecatedAndHidden": false,
        "digits": if whole { field.precision } else { 0 },
        "displayLocationInDecimal": false,
        "encrypted": false,
        "externalId": field.external_id,
        "extraTypeInfo": if long { json!("plaintextarea") } else { Value::Null },
        "filterable": field.filterable(),
        "filteredLookupInfo": null,
        "formulaTreatNullNumberAsZero": false,
        "groupable": groupable,
        "highScaleNumber": false,
        "htmlFormatted": false,
        "idLookup": field.id_lookup,
        "inlineHelpText": null,
        "label": field.label,
        "length": if numeric || kind == Boolean { 0 } else { field.length },
        "mask": null,
        "maskType": null,
        "name": field.name,
        "nameField": field.name_field,
        "namePointing": field.reference_to.len() > 1,
        "nillable": !field.required && kind != Boolean,
        "permissionable": (field.createable || field.calculated()) && !field.required,
        "picklistValues": choices,
        "polymorphicForeignKey": field.reference_to.len() > 1,
        "precision": if numeric && !whole { field.precision } else { 0 },
        "queryByDistance": false,
        "referenceTargetField": null,
        "referenceTo": field.reference_to,
        "relationshipName": field.relationship,
        "relationshipOrder": field.master_detail.then_some(0),
        "restrictedDelete": field.restrict,
        "restrictedPicklist": field.restricted && matches!(kind, Picklist | MultiPicklist),
        "scale": if numeric { field.scale } else { 0 },
        "searchPrefilterable": kind == Reference,
        "soapType": soap_type(kind),
        "sortable": field.filterable() && kind != MultiPicklist,
        "type": kind.name(),
        "unique": field.unique,
        "updateable": field.updateable && field.editable,
        "writeRequiresMasterRead": false,
    })
}

fn soap_type(kind: FieldType) -> &'static str {
    use FieldType::{
        Address, Boolean, Currency, Date, DateTime, Double, Id, Int, Percent, Reference, Time,
    };
    match kind {
        Id | Reference => "tns:ID",
        Double | Currency | Percent => "xsd:double",
        Int => "xsd:int",
        Boolean => "xsd:boolean",
        Date => "xsd:date",
        DateTime => "xsd:dateTime",
        Time => "xsd:time",
        Address => "urn:address",
        _ => "xsd:string",
    }
}

/// What the list of all objects says about one, and the long description too.
pub(crate) fn summary(object: &Object, version: &str) -> Map<String, Value> {
    let path = format!("/services/data/v{version}/sobjects/{}", object.name);
    let custom = object.name.ends_with("__c");
    let summary = json!({
        "activateable": false,
        "associateEntityType": null,
        "associateParentEntity": null,
        "createable": object.createable,
        "custom": custom,
        "customSetting": false,
        "deepCloneable": false,
        "deletable": object.deletable,
        "deprecatedAndHidden": false,
        "feedEnabled": !custom,
        "hasSubtypes": false,
        "isInterface": false,
        "isSubtype": false,
        "keyPrefix": object.key_prefix,
        "label": object.label,
        "labelPlural": plural(&object.label),
        "layoutable": true,
        "mergeable": is_mergeable(&object.name),
        "mruEnabled": true,
        "name": object.name,
        "queryable": object.queryable,
        "replicateable": true,
        "retrieveable": object.queryable,
        "searchable": true,
        "triggerable": true,
        "undeletable": object.deletable,
        "updateable": object.updateable,
        "urls": {
            "describe": format!("{path}/describe"),
            "rowTemplate": format!("{path}/{{ID}}"),
            "sobject": path,
        },
    });
    match summary {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// The long description, with the fields that the integration user may see.
pub(crate) fn full(object: &Object, all: &[Object], version: &str) -> Value {
    let mut map = summary(object, version);
    let mut children = Vec::new();
    for child in all {
        let pointing = child.fields.iter().filter(|f| f.reference_to.contains(&object.name));
        children.extend(pointing.map(|f| {
            json!({
                "cascadeDelete": f.cascade,
                "childSObject": child.name,
                "deprecatedAndHidden": false,
                "field": f.name,
                "junctionIdListNames": [],
                "junctionReferenceTo": [],
                "relationshipName": f.children,
                "restrictedDelete": f.restrict,
            })
        }));
    }
    let fields: Vec<Value> = object.fields.iter().filter(|f| f.visible).map(field).collect();
    let extra = json!({
        "actionOverrides": [],
        "childRelationships": children,
        "compactLayoutable": true,
        "dataTranslationEnabled": false,
        "defaultImplementation": null,
        "extendedBy": null,
        "extendsInterfaces": null,
        "fields": fields,
        "implementedBy": null,
        "implementsInterfaces": null,
        "listviewable": null,
        "lookupLayoutable": null,
        "namedLayoutInfos": [],
        "networkScopeFieldName": null,
        "recordTypeInfos": [{
            "active": true, "available": true, "defaultRecordTypeMapping": true,
            "developerName": "Master", "master": true, "name": "Master",
            "recordTypeId": "012000000000000AAA",
            "urls": {"layout": format!("/services/data/v{version}/sobjects/{}/describe/layouts/012000000000000AAA", object.name)},
        }],
        "searchLayoutable": true,
        "sobjectDescribeOption": "FULL",
        "supportedScopes": [{"label": "All records", "name": "everything"}],
    });
    if let Value::Object(extra) = extra {
        map.extend(extra);
    }
    Value::Object(map)
}
